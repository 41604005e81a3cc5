//! Clients that want to hurt: what they do costs them, and nobody else.

use std::time::{Duration, Instant};

use kos_manifest::control::{ServiceStatus, SystemStatus};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use zbus::Message;

use super::realm::{OBSERVER, OPERATOR};
use super::{Server, call};
use crate::control::account::MAX_WAITING;
use crate::control::manager::MANAGER;
use crate::control::standard::OBJECT_MANAGER;

const MANAGER_PATH: &str = "/org/kos/Init1";

#[tokio::test]
async fn a_flood_of_calls_delays_the_flooder_alone() {
    let server = Server::new();
    let mut flooder = server.knock(OBSERVER);
    flooder
        .write_all(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")
        .await
        .unwrap();
    let ping = Message::method_call(MANAGER_PATH, "Ping")
        .build(&())
        .unwrap();
    let flood = ping.data().repeat(50_000);
    let flooding = tokio::spawn(async move {
        let (mut read, mut write) = flooder.into_split();
        let drain = async { tokio::io::copy(&mut read, &mut tokio::io::sink()).await };
        let _ = tokio::join!(drain, write.write_all(&flood));
    });
    let other = server.client(OPERATOR).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let before = Instant::now();
    for _ in 0..20 {
        let _: SystemStatus = call(&other, MANAGER_PATH, MANAGER.name, "System", &())
            .await
            .unwrap();
    }
    assert!(
        before.elapsed() < Duration::from_millis(500),
        "{:?}",
        before.elapsed()
    );
    // 50,000 calls are two minutes of what a uid earns.
    assert!(!flooding.is_finished());
    flooding.abort();
}

#[tokio::test(start_paused = true)]
async fn who_does_not_introduce_itself_or_does_not_end_its_message_is_let_go() {
    let server = Server::new();
    let mut rest = Vec::new();
    let mut silent = server.knock(OBSERVER);
    silent.read_to_end(&mut rest).await.unwrap();
    let mut slow = server.knock(OPERATOR);
    slow.write_all(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\nl")
        .await
        .unwrap();
    slow.read_to_end(&mut rest).await.unwrap();
    let said = server.realm.said();
    assert!(said[0].contains("did not introduce itself"), "{said:?}");
    assert!(said[1].contains("did not end its message"), "{said:?}");
}

#[tokio::test(start_paused = true)]
async fn who_does_not_read_answers_is_not_listened_to_and_let_go() {
    let server = Server::new();
    for index in 0..400 {
        server.realm.add(&format!("agent-{index}"));
    }
    let mut deaf = server.knock(OPERATOR);
    deaf.write_all(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")
        .await
        .unwrap();
    let call = Message::method_call(MANAGER_PATH, "GetManagedObjects")
        .interface(OBJECT_MANAGER.name)
        .build(&())
        .unwrap();
    deaf.write_all(&call.data().repeat(100)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let said = server.realm.said();
    assert!(
        said[0].contains("did not read what it was told"),
        "{said:?}"
    );
    let mut rest = Vec::new();
    deaf.read_to_end(&mut rest).await.unwrap();
    assert!(rest.len() < 4 << 20, "{}", rest.len());
}

#[tokio::test]
async fn waiting_calls_have_a_number() {
    let server = Server::new();
    let client = server.client(OBSERVER).await;
    let wait = Message::method_call(MANAGER_PATH, "WaitChange")
        .build(&(7_u64, 30_000_u32))
        .unwrap();
    for _ in 0..MAX_WAITING {
        client.send(&wait).await.unwrap();
    }
    let refused: Result<u64, _> = call(
        &client,
        MANAGER_PATH,
        MANAGER.name,
        "WaitChange",
        &(7_u64, 1_u32),
    )
    .await;
    assert!(refused.unwrap_err().0.ends_with("LimitsExceeded"));
    // Plain calls go on; and when the news comes, waiting is possible again.
    let _: SystemStatus = call(&client, MANAGER_PATH, MANAGER.name, "System", &())
        .await
        .unwrap();
    server.realm.generation.send_modify(|now| *now += 1);
    let again: u64 = call(
        &client,
        MANAGER_PATH,
        MANAGER.name,
        "WaitChange",
        &(7_u64, 1_u32),
    )
    .await
    .unwrap();
    assert_eq!(again, 8);
}

#[tokio::test]
async fn a_thousand_services_are_as_many_as_one() {
    let server = Server::new();
    for index in 0..998 {
        server.realm.add(&format!("agent-{index}"));
    }
    let client = server.client(OPERATOR).await;
    let all: Vec<ServiceStatus> = call(&client, MANAGER_PATH, MANAGER.name, "Services", &())
        .await
        .unwrap();
    assert_eq!(all.len(), 1000);
}
