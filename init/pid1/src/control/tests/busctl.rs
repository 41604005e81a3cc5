//! A client that is not ours: systemd's `busctl`, where the machine that tests has it.

use std::process::Command;
use std::sync::Arc;

use super::realm::TestRealm;
use crate::control::serve;

/// Runs `busctl` with these arguments; gives what it printed, errors behind it.
async fn busctl(socket: &str, arguments: &[&str]) -> String {
    let mut command = Command::new("busctl");
    command
        .args([
            &format!("--address=unix:path={socket}"),
            "--no-pager",
            "--full",
        ])
        .args(arguments);
    tokio::task::spawn_blocking(move || {
        let output = command.output().unwrap();
        let told = [output.stdout, output.stderr].concat();
        String::from_utf8(told).unwrap()
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn busctl_browses_calls_and_reads() {
    if Command::new("busctl").arg("--version").output().is_err() {
        eprintln!("busctl is not installed here; the end-to-end tests have a foreign client, too");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("init.sock").display().to_string();
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    let realm = Arc::new(TestRealm::new());
    let serving = tokio::spawn(serve(listener, realm.clone()));
    let (manager, camera) = ("/org/kos/Init1", "/org/kos/Init1/service/camera_40garage");

    let tree = busctl(&socket, &["tree", "org.kos.Init1", "--list"]).await;
    assert!(tree.lines().any(|line| line == camera), "{tree}");
    let seen = busctl(&socket, &["introspect", "org.kos.Init1", camera]).await;
    for word in [
        ".Quarantine",
        ".MemoryMax",
        "\"camera@garage\"",
        "emits-change",
        ".PropertiesChanged",
    ] {
        assert!(seen.contains(word), "{word}: {seen}");
    }
    let arguments = [
        "get-property",
        "org.kos.Init1",
        camera,
        "org.kos.Init1.Service",
        "State",
        "MainPid",
    ];
    assert_eq!(busctl(&socket, &arguments).await, "s \"ready\"\nu 30\n");
    let arguments = [
        "call",
        "org.kos.Init1",
        manager,
        "org.kos.Init1",
        "Restart",
        "s",
        "my-agent",
    ];
    assert_eq!(busctl(&socket, &arguments).await, "");
    let arguments = [
        "call",
        "org.kos.Init1",
        manager,
        "org.kos.Init1",
        "SetManifest",
        "ss",
        "new",
        "x",
    ];
    assert_eq!(
        busctl(&socket, &arguments).await,
        "(asasasasu) 1 \"new\" 0 0 0 2\n"
    );
    let arguments = [
        "call",
        "org.kos.Init1",
        manager,
        "org.kos.Init1",
        "GetService",
        "s",
        "gone",
    ];
    assert_eq!(
        busctl(&socket, &arguments).await,
        "Call failed: no 'gone'\n"
    );
    assert_eq!(realm.calls(), ["my-agent Restart", "set new 1"]);

    // A monitor hears what happens from now on.
    let mut monitor = Command::new("busctl")
        .args([
            &format!("--address=unix:path={socket}"),
            "--json=short",
            "monitor",
        ])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let output = monitor.stdout.take().unwrap();
    let heard = tokio::task::spawn_blocking(move || {
        let lines = std::io::BufRead::lines(std::io::BufReader::new(output));
        lines
            .map_while(Result::ok)
            .find(|line| line.contains("ServiceStateChanged"))
    });
    while !heard.is_finished() {
        realm.change("my-agent", |view| view.reason = "it attacked".to_owned());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let heard = heard.await.unwrap().unwrap();
    assert!(
        heard.contains("[\"my-agent\",\"starting\",\"it attacked\"]"),
        "{heard}"
    );
    monitor.kill().unwrap();
    monitor.wait().unwrap();
    serving.abort();
}
