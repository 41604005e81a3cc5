//! Signals: who asked for them gets them, nobody else does, and nobody is waited for.

use std::collections::HashMap;
use std::time::Duration;

use kos_manifest::control::{ReloadReport, State};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use zbus::{Connection as Client, Message, MessageStream, OwnedObjectPath, OwnedVariant};

use super::realm::{OBSERVER, OPERATOR};
use super::{Server, call};
use crate::control::manager::MANAGER;
use crate::news::News;

async fn next(stream: &mut MessageStream) -> Message {
    loop {
        let message = tokio::time::timeout(Duration::from_secs(5), next_of(stream)).await;
        let message = message.expect("no signal").unwrap();
        if message.message_type() == zbus::message::Type::Signal {
            return message;
        }
    }
}

async fn next_of(stream: &mut MessageStream) -> zbus::Result<Message> {
    std::future::poll_fn(|context| {
        let stream = std::pin::Pin::new(&mut *stream);
        zbus::export::futures_core::Stream::poll_next(stream, context)
    })
    .await
    .expect("the connection has ended")
}

async fn manager(client: &Client, method: &str) {
    let _: () = call(client, "/org/kos/Init1", MANAGER.name, method, &())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_change_is_told_to_those_who_asked() {
    let server = Server::new();
    let (asked, silent) = (server.client(OBSERVER).await, server.client(OPERATOR).await);
    manager(&asked, "Subscribe").await;
    let (mut heard, mut unheard) = (MessageStream::from(&asked), MessageStream::from(&silent));
    server.realm.change("camera@garage", |view| {
        view.state = State::Ready;
        view.reason = "said that it is ready".to_owned();
        view.pid = 77;
    });
    let first = next(&mut heard).await;
    assert_eq!(
        first.header().member().unwrap().as_str(),
        "PropertiesChanged"
    );
    assert_eq!(
        first.header().path().unwrap().as_str(),
        "/org/kos/Init1/service/camera_40garage"
    );
    let body = first.body();
    let (interface, changed, invalid): (String, HashMap<String, OwnedVariant>, Vec<String>) =
        body.deserialize().unwrap();
    assert_eq!(interface, "org.kos.Init1.Service");
    let mut names: Vec<_> = changed.keys().cloned().collect();
    names.sort();
    assert_eq!(names, ["MainPid", "Reason", "State"]);
    assert!(invalid.is_empty());
    let second = next(&mut heard).await;
    assert_eq!(
        second
            .body()
            .deserialize::<(String, String, String)>()
            .unwrap(),
        (
            "camera@garage".to_owned(),
            "ready".to_owned(),
            "said that it is ready".to_owned()
        )
    );
    assert!(
        tokio::time::timeout(Duration::from_millis(100), next_of(&mut unheard))
            .await
            .is_err()
    );
    manager(&asked, "Unsubscribe").await;
    server.realm.change("my-agent", |view| view.pid = 78);
    assert!(
        tokio::time::timeout(Duration::from_millis(100), async {
            while next_of(&mut heard).await.unwrap().message_type() != zbus::message::Type::Signal {
            }
        })
        .await
        .is_err()
    );
}

#[tokio::test]
async fn objects_follow_a_reload() {
    let server = Server::new();
    let client = server.client(OBSERVER).await;
    manager(&client, "Subscribe").await;
    let mut heard = MessageStream::from(&client);
    server.realm.add("new");
    server.realm.remove("my-agent");
    let report = ReloadReport {
        added: vec!["new".to_owned()],
        removed: vec!["my-agent".to_owned()],
        restarted: Vec::new(),
        updated: vec!["camera@garage".to_owned()],
        unchanged: 0,
    };
    let told = report.clone();
    server.realm.newsroom.tell(|| News::Reloaded(told));
    let member = |message: &Message| message.header().member().unwrap().to_string();
    let removed = next(&mut heard).await;
    assert_eq!(member(&removed), "InterfacesRemoved");
    let (path, gone): (OwnedObjectPath, Vec<String>) = removed.body().deserialize().unwrap();
    assert_eq!(path.as_str(), "/org/kos/Init1/service/my_2dagent");
    assert!(gone.contains(&"org.kos.Init1.Service".to_owned()));
    let added = next(&mut heard).await;
    assert_eq!(member(&added), "InterfacesAdded");
    let body = added.body();
    let (path, have): (
        OwnedObjectPath,
        HashMap<String, HashMap<String, OwnedVariant>>,
    ) = body.deserialize().unwrap();
    assert_eq!(path.as_str(), "/org/kos/Init1/service/new");
    assert!(have["org.kos.Init1.Service"].contains_key("MemoryMax"));
    let updated = next(&mut heard).await;
    let body = updated.body();
    let (_, changed, invalid): (String, HashMap<String, OwnedVariant>, Vec<String>) =
        body.deserialize().unwrap();
    assert!(changed.is_empty() && invalid.contains(&"MemoryMax".to_owned()));
    let reloaded = next(&mut heard).await;
    assert_eq!(member(&reloaded), "Reloaded");
    assert_eq!(
        reloaded.body().deserialize::<ReloadReport>().unwrap(),
        report
    );
    server.realm.newsroom.tell(|| News::GoingDown {
        end: "reboot",
        reason: "test".to_owned(),
    });
    assert_eq!(member(&next(&mut heard).await), "GoingDown");
}

/// A subscriber that does not read holds a bounded amount, is let go, and nobody waits for it.
#[tokio::test]
async fn a_subscriber_that_does_not_read_is_let_go() {
    let server = Server::new();
    let mut deaf = server.knock(OBSERVER);
    deaf.write_all(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")
        .await
        .unwrap();
    let subscribe = Message::method_call("/org/kos/Init1", "Subscribe")
        .build(&())
        .unwrap();
    deaf.write_all(subscribe.data()).await.unwrap();
    let mut answer = [0; 200];
    while deaf.read(&mut answer).await.unwrap() < 50 {}
    let reader = server.client(OPERATOR).await;
    manager(&reader, "Subscribe").await;
    let mut heard = MessageStream::from(&reader);
    for pid in 1..5_000 {
        server.realm.change("my-agent", |view| {
            view.pid = pid;
            view.reason = "x".repeat(100);
        });
        // Who reads misses nothing.
        let changed = next(&mut heard).await;
        let body = changed.body();
        let (_, values, _): (String, HashMap<String, OwnedVariant>, Vec<String>) =
            body.deserialize().unwrap();
        assert_eq!(u32::try_from(&values["MainPid"]).unwrap(), pid);
        next(&mut heard).await;
    }
    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(21)).await;
    let said = server.realm.said();
    assert!(
        said[0].contains("uid 1002 was let go: it did not read what it was told"),
        "{said:?}"
    );
    let mut rest = Vec::new();
    deaf.read_to_end(&mut rest).await.unwrap();
    assert!(rest.len() < 1024 * 1024, "{}", rest.len());
}
