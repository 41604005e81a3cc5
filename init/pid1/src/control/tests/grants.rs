//! Who may do what: every method, for every grant.

use kos_manifest::service::ControlGrant;

use super::realm::{NAMER, NOTHING, OBSERVER, OPERATOR};
use super::{Server, call};
use crate::control::manager::MANAGER;
use crate::control::service::SERVICE;
use crate::control::standard;

const USERS: [(u32, ControlGrant); 4] = [
    (NOTHING, ControlGrant::None),
    (OBSERVER, ControlGrant::Observe),
    (NAMER, ControlGrant::Name),
    (OPERATOR, ControlGrant::Operate),
];

/// Without arguments a method that takes some refuses; that it got so far is what counts.
#[tokio::test]
async fn every_method_asks_for_its_grant() {
    let server = Server::new();
    for (uid, grant) in USERS {
        let client = server.client(uid).await;
        let service = "/org/kos/Init1/service/my_2dagent";
        let manager = "/org/kos/Init1";
        let methods = MANAGER
            .methods
            .iter()
            .map(|method| (manager, MANAGER.name, method))
            .chain(
                SERVICE
                    .methods
                    .iter()
                    .map(|method| (service, SERVICE.name, method)),
            )
            .chain(
                [
                    &standard::PEER,
                    &standard::INTROSPECTABLE,
                    &standard::PROPERTIES,
                    &standard::OBJECT_MANAGER,
                ]
                .into_iter()
                .flat_map(|interface| {
                    interface
                        .methods
                        .iter()
                        .map(|method| (manager, interface.name, method))
                }),
            );
        for (path, interface, method) in methods {
            let answer = client
                .call_method(None::<&str>, path, Some(interface), method.name, &())
                .await;
            let refused = matches!(&answer, Err(zbus::Error::MethodError(name, ..))
                if name.as_str() == "org.kos.Init1.Error.NotAllowed");
            assert_eq!(
                refused,
                grant < method.grant,
                "{interface}.{} for {grant:?}",
                method.name
            );
        }
    }
    // Whatever was asked for was asked for by somebody who may.
    let calls = server.realm.calls();
    assert!(calls.iter().any(|call| call == "reload"), "{calls:?}");
    assert_eq!(calls.iter().filter(|call| *call == "reload").count(), 1);
}

#[tokio::test]
async fn an_operators_words_arrive() {
    let server = Server::new();
    let client = server.client(OPERATOR).await;
    let manager = "/org/kos/Init1";
    let camera = "/org/kos/Init1/service/camera_40garage";
    let _: () = call(
        &client,
        manager,
        MANAGER.name,
        "Quarantine",
        &("my-agent", "it\nattacked"),
    )
    .await
    .unwrap();
    let _: () = call(&client, camera, SERVICE.name, "Kill", &9_i32)
        .await
        .unwrap();
    let _: () = call(&client, camera, SERVICE.name, "Freeze", &())
        .await
        .unwrap();
    let _: () = call(&client, manager, MANAGER.name, "Reboot", &"a new kernel")
        .await
        .unwrap();
    assert_eq!(
        server.realm.calls(),
        [
            "my-agent Quarantine(\"itattacked\")",
            "camera@garage Kill(9)",
            "camera@garage Freeze",
            "Reboot a new kernel",
        ]
    );
    let long = "x".repeat(201);
    let refused: Result<(), _> =
        call(&client, manager, MANAGER.name, "PowerOff", &long.as_str()).await;
    assert_eq!(
        refused.unwrap_err().1,
        "reason: found 201 bytes, allowed: 200"
    );
    let refused: Result<kos_manifest::control::ReloadReport, _> = call(
        &client,
        manager,
        MANAGER.name,
        "SetManifest",
        &("a", "wrong"),
    )
    .await;
    let (name, words) = refused.unwrap_err();
    assert_eq!(name, "org.kos.Init1.Error.InvalidManifest");
    assert_eq!(words, "a.toml:1:1: memory: found wrong, allowed: 1M");
}

/// An observer's messages are short; only who may set a manifest may send one.
#[tokio::test]
async fn a_manifest_fits_and_nothing_longer() {
    let server = Server::new();
    let (observer, operator) = (server.client(OBSERVER).await, server.client(OPERATOR).await);
    let manager = "/org/kos/Init1";
    let text = "#".repeat(kos_manifest::control::MAX_MANIFEST);
    let report: kos_manifest::control::ReloadReport = call(
        &operator,
        manager,
        MANAGER.name,
        "SetManifest",
        &("a", text.as_str()),
    )
    .await
    .unwrap();
    assert_eq!(report.added, ["a"]);
    let longer = format!("{text}#");
    let refused: Result<kos_manifest::control::ReloadReport, _> = call(
        &operator,
        manager,
        MANAGER.name,
        "SetManifest",
        &("a", longer.as_str()),
    )
    .await;
    assert!(refused.unwrap_err().1.contains("allowed: 65536"));
    let gone = observer
        .call_method(
            None::<&str>,
            manager,
            Some(MANAGER.name),
            "SetManifest",
            &("a", text.as_str()),
        )
        .await;
    assert!(
        !matches!(gone, Err(zbus::Error::MethodError(..)) | Ok(_)),
        "{gone:?}"
    );
    assert!(
        server.realm.said()[0].contains("allowed: 32768"),
        "{:?}",
        server.realm.said()
    );
}
