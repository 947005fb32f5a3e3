//! The generated manifests hold to the conventions, without a cluster.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::Path;

use bursar_crds::manifests;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray,
};

/// Calls `check` with the path and schema of every field of every kind.
fn each_field(check: &mut dyn FnMut(&str, &JSONSchemaProps)) {
    for crd in manifests::all() {
        for version in crd.spec.versions {
            let schema = version.schema.unwrap().open_api_v3_schema.unwrap();
            walk(&crd.spec.names.kind, &schema, check);
        }
    }
}

fn walk(path: &str, schema: &JSONSchemaProps, check: &mut dyn FnMut(&str, &JSONSchemaProps)) {
    check(path, schema);
    for (name, property) in schema.properties.iter().flatten() {
        walk(&format!("{path}.{name}"), property, check);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
        walk(&format!("{path}[]"), items, check);
    }
}

fn has_type(schema: &JSONSchemaProps, type_: &str) -> bool {
    schema.type_.as_deref() == Some(type_)
}

#[test]
fn the_committed_manifests_are_what_the_types_say() {
    manifests::check(&Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests")).unwrap();
}

#[test]
fn a_manifest_that_differs_is_drift() {
    let folder = std::env::temp_dir().join(format!("bursar-crds-drift-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    manifests::write(&folder).unwrap();
    let fresh = manifests::check(&folder);
    let file = folder.join("tokenusers.yaml");
    std::fs::write(&file, "kind: Other").unwrap();
    let changed = manifests::check(&folder);
    std::fs::remove_dir_all(&folder).unwrap();
    fresh.unwrap();
    assert!(matches!(changed, Err(manifests::ManifestError::Drift { path }) if path == file));
}

#[test]
fn every_string_and_list_has_a_bound() {
    each_field(&mut |path, schema| {
        if has_type(schema, "string") {
            let bounded = schema.max_length.is_some()
                || schema.enum_.is_some()
                || schema.format.as_deref() == Some("date-time");
            assert!(bounded, "{path} has no maxLength");
        }
        if has_type(schema, "array") {
            assert!(schema.max_items.is_some(), "{path} has no maxItems");
        }
    });
}

#[test]
fn every_list_merges_by_key_or_as_a_set() {
    each_field(&mut |path, schema| {
        let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items else {
            return;
        };
        let list = schema.x_kubernetes_list_type.as_deref();
        let expected = if has_type(items, "object") {
            "map"
        } else {
            "set"
        };
        assert_eq!(list, Some(expected), "{path}");
    });
}

#[test]
fn names_and_values_follow_the_api_conventions() {
    let camel = |word: &str, first: fn(&char) -> bool| {
        word.chars().next().is_some_and(|c| first(&c))
            && word.chars().all(|c| c.is_ascii_alphanumeric())
    };
    each_field(&mut |path, schema| {
        for (name, property) in schema.properties.iter().flatten() {
            assert!(camel(name, char::is_ascii_lowercase), "{path}.{name}");
            if property.format.as_deref() == Some("date-time") {
                assert!(name.ends_with("Time"), "{path}.{name} is a time");
            }
        }
        for value in schema.enum_.iter().flatten() {
            let word = value.0.as_str().unwrap();
            assert!(camel(word, char::is_ascii_uppercase), "{path}: {word}");
        }
    });
}

#[test]
fn every_field_is_explained_in_sentences() {
    each_field(&mut |path, schema| {
        for (name, property) in schema.properties.iter().flatten() {
            let explained = property.description.as_deref().unwrap_or_default();
            assert!(
                explained.ends_with(['.', ')']),
                "{path}.{name}: {explained}"
            );
        }
    });
}

#[test]
fn no_field_keeps_a_null() {
    each_field(&mut |path, schema| assert_eq!(schema.nullable, None, "{path}"));
}

#[test]
fn every_rule_says_in_a_sentence_what_to_do() {
    each_field(&mut |path, schema| {
        for rule in schema.x_kubernetes_validations.iter().flatten() {
            let message = rule.message.as_deref().unwrap_or_default();
            assert!(message.ends_with('.'), "{path}: {}", rule.rule);
        }
    });
}

#[test]
fn nobody_who_writes_a_spec_is_shown_a_regular_expression() {
    each_field(&mut |path, schema| {
        // Kubernetes' own condition has one; people do not write it.
        let written = !path.contains(".status");
        assert!(!written || schema.pattern.is_none(), "{path}");
    });
}
