//! The CustomResourceDefinitions as they are installed, and as files.

use std::path::{Path, PathBuf};
use std::{fs, io};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use kube::{CustomResourceExt, ResourceExt};

use crate::{StoredToken, TokenQuota, TokenUser};

const HEADER: &str = "# Generated from crds/src by `make generate`; edits here are lost.\n";

/// Why the manifests could not be written or compared.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The file system refused.
    #[error("cannot access the manifest {path}: {source}", path = path.display())]
    File {
        /// The manifest.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// A definition cannot be written as YAML.
    #[error("cannot write the definition {name} as YAML: {source}")]
    Yaml {
        /// Name of the CustomResourceDefinition.
        name: String,
        /// What the serializer said.
        source: serde_saphyr::SerializeError,
    },
    /// The file is not what the types say.
    #[error(
        "{path} is not what the types in crds/src say: run `make generate` and commit the result",
        path = path.display()
    )]
    Drift {
        /// The manifest.
        path: PathBuf,
    },
}

/// All CustomResourceDefinitions, as they are installed.
pub fn all() -> Vec<CustomResourceDefinition> {
    [TokenUser::crd(), StoredToken::crd(), TokenQuota::crd()]
        .into_iter()
        .map(|mut crd| {
            for schema in schemas(&mut crd) {
                edit(schema);
            }
            crd
        })
        .collect()
}

/// Writes one file per kind into `folder`.
///
/// # Errors
/// When the folder cannot be written.
pub fn write(folder: &Path) -> Result<(), ManifestError> {
    for (path, yaml) in files(folder)? {
        fs::write(&path, yaml).map_err(|source| ManifestError::File { path, source })?;
    }
    Ok(())
}

/// Compares the files in `folder` with the types.
///
/// # Errors
/// [`ManifestError::Drift`] for the first file that differs.
pub fn check(folder: &Path) -> Result<(), ManifestError> {
    for (path, yaml) in files(folder)? {
        match fs::read_to_string(&path) {
            Ok(found) if found == yaml => {}
            Ok(_) => return Err(ManifestError::Drift { path }),
            Err(source) => return Err(ManifestError::File { path, source }),
        }
    }
    Ok(())
}

/// Path and content of each manifest.
fn files(folder: &Path) -> Result<Vec<(PathBuf, String)>, ManifestError> {
    all()
        .iter()
        .map(|crd| {
            let yaml = serde_saphyr::to_string(crd).map_err(|source| ManifestError::Yaml {
                name: crd.name_any(),
                source,
            })?;
            let file = format!("{}.yaml", crd.spec.names.plural);
            Ok((folder.join(file), format!("{HEADER}{yaml}")))
        })
        .collect()
}

fn schemas(crd: &mut CustomResourceDefinition) -> impl Iterator<Item = &mut JSONSchemaProps> {
    let versions = crd.spec.versions.iter_mut();
    versions.filter_map(|version| version.schema.as_mut()?.open_api_v3_schema.as_mut())
}

/// What the derive makes otherwise than people and the API server need it.
fn edit(schema: &mut JSONSchemaProps) {
    // An optional field is marked as nullable. Then a null is kept and `has()` in a CEL rule
    // finds it: `secretKeyRef: null` would count as a source. Without the mark it is refused or
    // dropped.
    schema.nullable = None;
    // A comment's lines end where the source's do, and kubectl explain would keep that.
    if let Some(description) = &mut schema.description {
        let paragraphs = description
            .split("\n\n")
            .map(|text| text.replace('\n', " "));
        *description = paragraphs.collect::<Vec<_>>().join("\n\n");
    }
    for property in schema.properties.iter_mut().flat_map(|p| p.values_mut()) {
        edit(property);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        edit(items);
    }
}
