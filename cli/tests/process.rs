//! The command as people run it.

use std::io::pipe;
use std::path::Path;
use std::process::Command;

#[test]
fn an_empty_variable_is_no_kubeconfig() {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("home");
    std::fs::create_dir_all(home.join(".kube")).unwrap();
    let config = "apiVersion: v1\nkind: Config\ncurrent-context: named-at-home\n";
    std::fs::write(home.join(".kube/config"), config).unwrap();
    let told = |kubeconfig: Option<&str>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-bursar"));
        command.args(["audit", "verify"]).env("HOME", &home);
        match kubeconfig {
            Some(value) => command.env("KUBECONFIG", value),
            None => command.env_remove("KUBECONFIG"),
        };
        let output = command.output().unwrap();
        // What cannot be verified is not what was found to be bad.
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8(output.stderr).unwrap()
    };
    for kubeconfig in [None, Some("")] {
        let told = told(kubeconfig);
        assert!(told.contains("named-at-home"), "{told}");
    }
    assert!(!told(Some("/nowhere")).contains("named-at-home"));
}

#[test]
fn an_error_that_nobody_reads_gives_the_same_exit_code() {
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    let status = Command::new(env!("CARGO_BIN_EXE_kubectl-bursar"))
        .args(["audit", "verify", "--kubeconfig", "/nowhere"])
        .stderr(writer)
        .status();
    assert_eq!(status.unwrap().code(), Some(2));
}

#[test]
fn a_wrong_command_line_is_told_before_anybody_is_asked() {
    for line in [
        "audit --outcome Given",
        "audit --follow",
        "audit --follow -o jsonl --until 1h",
        "audit --since 1h --until 1h",
        "why not-an-id",
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_kubectl-bursar"))
            .args(line.split(' '))
            .args(["--kubeconfig", "/nowhere"])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{line}");
    }
    let mut audit = Command::new(env!("CARGO_BIN_EXE_kubectl-bursar"));
    let status = audit.args(["audit", "--kubeconfig", "/nowhere"]).output();
    assert_eq!(status.unwrap().status.code(), Some(1));
}

#[test]
fn a_kubeconfig_that_cannot_be_read_is_not_quoted() {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("broken.yaml");
    std::fs::write(&path, "users: [{\"token\": \"planted-").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_kubectl-bursar"))
        .args(["audit", "--kubeconfig", path.to_str().unwrap()])
        .output()
        .unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("the kubeconfig cannot be used"), "{told}");
    assert!(!told.contains("planted-"), "{told}");
}
