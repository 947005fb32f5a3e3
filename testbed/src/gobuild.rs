//! The control plane's programs: built from Kubernetes' own Go modules, once.

use std::env;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::process::{ProcessError, Spec};
use crate::progress::Step;
use crate::wait;

/// The Go module beside this crate.
const MODULE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/go");
const VERSION: (&str, &str, &str) = ("v1.36.3", "1", "36");
/// Two cores need five minutes when nothing is in Go's own cache.
const BUILD_LIMIT: Duration = Duration::from_secs(40 * 60);
const STILL_BUILDING: Duration = Duration::from_secs(30);

/// The convention of controller-runtime's envtest.
const ASSETS: &str = "KUBEBUILDER_ASSETS";
const SERVERS: [&str; 2] = ["etcd", "kube-apiserver"];
const CLIENT: &str = "kubectl";

/// Why the control plane's programs are not there.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// There is no Go compiler.
    #[error(
        "Go is not installed: install Go 1.26 or newer, or set KUBEBUILDER_ASSETS to a folder with etcd, kube-apiserver and kubectl"
    )]
    NoGo,
    /// `KUBEBUILDER_ASSETS` is set, but does not hold what is needed.
    #[error(
        "KUBEBUILDER_ASSETS is {folder}, which holds no {program}; add it, or unset the variable"
    )]
    NoAsset {
        /// The folder named by the variable.
        folder: String,
        /// The program that is missing.
        program: &'static str,
    },
    /// `HOME` and `XDG_CACHE_HOME` are both unset.
    #[error("there is no folder to keep the built programs in: set HOME or XDG_CACHE_HOME")]
    NoCache,
    /// A file or folder could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which one.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The Go compiler failed.
    #[error(transparent)]
    Compiler(#[from] ProcessError),
}

/// Puts `etcd`, `kube-apiserver` and `kubectl` into the folder `bin`, as links: to the
/// folder that `KUBEBUILDER_ASSETS` names, or else to our own build, made now if this is
/// the first time.
///
/// # Errors
/// When a program is missing and cannot be built.
pub(crate) async fn install(bin: &Path) -> Result<(), BuildError> {
    fs::create_dir_all(bin).map_err(at(bin))?;
    let link = |target: &Path, name: &str| {
        let link = bin.join(name);
        symlink(target, &link).map_err(at(&link))
    };
    if let Some(assets) = env::var_os(ASSETS).map(PathBuf::from) {
        for program in SERVERS {
            link(&asset(&assets, program)?, program)?;
        }
        // Some editions of these assets come without kubectl.
        let client = asset(&assets, CLIENT).or_else(|error| in_path(CLIENT).ok_or(error))?;
        return link(&client, CLIENT);
    }
    let kube = build().await?;
    for program in SERVERS.into_iter().chain([CLIENT]) {
        link(&kube, program)?;
    }
    Ok(())
}

/// Builds what [`crate::Testbed::start`] would otherwise build; nothing where
/// `KUBEBUILDER_ASSETS` is set.
///
/// # Errors
/// When it cannot be built.
pub async fn prepare() -> Result<(), BuildError> {
    match env::var_os(ASSETS) {
        Some(_) => Ok(()),
        None => build().await.map(drop),
    }
}

/// The path of the one program that is etcd, kube-apiserver and kubectl, built unless the
/// user's cache folder has it.
async fn build() -> Result<PathBuf, BuildError> {
    let cache = cache()?;
    fs::create_dir_all(&cache).map_err(at(&cache))?;
    let name = format!("kube-{}", key()?);
    let kube = cache.join(&name);
    if kube.exists() {
        return Ok(kube);
    }
    // Held until this function returns; a second testbed waits and then finds the file.
    let _lock = lock(&cache.join("kube.lock")).await?;
    if kube.exists() {
        return Ok(kube);
    }
    let step = Step::begin(
        "building etcd, kube-apiserver and kubectl from their Go modules (first time only, about 5 minutes on 2 cores)",
    );
    let unfinished = cache.join(format!("{name}.unfinished"));
    let compile = compiler(&unfinished, &cache.join(format!("{name}.log")))?.run(BUILD_LIMIT);
    tokio::select! {
        done = compile => done?,
        never = still_building() => match never {},
    }
    // Renamed only when whole, so that an interrupted build is never taken for one.
    fs::rename(&unfinished, &kube).map_err(at(&kube))?;
    step.done("done");
    Ok(kube)
}

fn compiler(output: &Path, log: &Path) -> Result<Spec, BuildError> {
    let go = in_path("go").ok_or(BuildError::NoGo)?;
    Ok(Spec::new("go build", go, log)
        .args(["-C", MODULE, "build", "-buildvcs=false", "-trimpath"])
        .args(["-ldflags", &linker_flags(), "-o"])
        .args([output.as_os_str(), ".".as_ref()])
        .env("CGO_ENABLED", "0"))
}

/// Without the version, API discovery and `kubectl version` report a development build.
fn linker_flags() -> String {
    let (version, major, minor) = VERSION;
    let packages = [
        "k8s.io/component-base/version",
        "k8s.io/client-go/pkg/version",
    ];
    packages.iter().fold("-s -w".to_owned(), |flags, package| {
        format!(
            "{flags} -X {package}.gitVersion={version} -X {package}.gitMajor={major} -X {package}.gitMinor={minor}"
        )
    })
}

async fn still_building() -> std::convert::Infallible {
    let mut seconds = 0;
    loop {
        tokio::time::sleep(STILL_BUILDING).await;
        seconds += STILL_BUILDING.as_secs();
        eprintln!("testbed:   still building after {seconds} s");
    }
}

/// Names the build by everything that goes into it.
fn key() -> Result<String, BuildError> {
    let mut digest = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    for name in ["go.mod", "go.sum", "main.go"] {
        let path = Path::new(MODULE).join(name);
        digest.update(&fs::read(&path).map_err(at(&path))?);
    }
    digest.update(linker_flags().as_bytes());
    Ok(hex::encode(&digest.finish().as_ref()[..8]))
}

fn cache() -> Result<PathBuf, BuildError> {
    let absolute = |name| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        .map(|cache| cache.join("bursar"))
        .ok_or(BuildError::NoCache)
}

async fn lock(path: &Path) -> Result<File, BuildError> {
    let file = File::create(path).map_err(at(path))?;
    // A blocking lock would keep Ctrl-C from being noticed.
    wait::until(BUILD_LIMIT, Duration::from_millis(200), async || {
        file.try_lock().ok()
    })
    .await
    .ok_or_else(|| at(path)(io::ErrorKind::TimedOut.into()))?;
    Ok(file)
}

fn asset(folder: &Path, program: &'static str) -> Result<PathBuf, BuildError> {
    let path = folder.join(program);
    if path.is_file() {
        return Ok(path);
    }
    Err(BuildError::NoAsset {
        folder: folder.display().to_string(),
        program,
    })
}

fn in_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> BuildError {
    let path = path.display().to_string();
    move |source| BuildError::File { path, source }
}
