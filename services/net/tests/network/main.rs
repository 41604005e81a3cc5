//! The service against a real DHCP server, in network namespaces.
//!
//! They need root, `ip`, `setpriv` and `dnsmasq` (Debian: iproute2, util-linux, dnsmasq-base), and
//! run only with `KOS_NET_TESTS=1`:
//!
//!     KOS_NET_TESTS=1 cargo test --release -p kos-net --test network -- --nocapture

#![allow(clippy::unwrap_used, reason = "the fixture is a test as well")]

mod fixture;
mod owner;

use std::net::UdpSocket;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use fixture::{MAC, Network, SERVER, Service, is_wanted, run};
use serde_json::{Value, json};

fn interface<'a>(state: &'a Value, name: &str) -> &'a Value {
    let list = state["interfaces"].as_array().unwrap();
    list.iter()
        .find(|one| one["name"] == name)
        .unwrap_or(&Value::Null)
}

fn is_in_state(state: &Value, name: &str, wanted: &str) -> bool {
    interface(state, name)["state"] == wanted
}

fn has_ipv4(state: &Value, name: &str) -> bool {
    interface(state, name)["ipv4"]
        .as_array()
        .is_some_and(|list| !list.is_empty())
}

/// Answers SNTP with a clock that is `ahead` seconds before this machine's.
fn time_server(socket: UdpSocket, ahead: f64) {
    std::thread::spawn(move || {
        let mut question = [0; 64];
        while let Ok((_, from)) = socket.recv_from(&mut question) {
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap()
                .as_secs_f64();
            let seconds = now + ahead + 2_208_988_800.0;
            let fraction = (seconds.fract() * 2f64.powi(32)) as u64;
            let stamp = (((seconds.floor() as u64) << 32) | fraction).to_be_bytes();
            let mut answer = [0; 48];
            answer[..2].copy_from_slice(&[0x24, 1]);
            answer[24..32].copy_from_slice(&question[40..48]);
            answer[32..40].copy_from_slice(&stamp);
            answer[40..48].copy_from_slice(&stamp);
            let _ = socket.send_to(&answer, from);
        }
    });
}

#[test]
fn a_lease_is_taken_renewed_and_released() {
    if !is_wanted() {
        return;
    }
    let network = Network::new();
    time_server(network.server_socket("10.77.0.1:123"), 0.25);
    let server = network.dnsmasq(&[
        &format!("--dhcp-host={MAC},10.77.0.42,kos-test"),
        "--dhcp-option=option:dns-server,10.77.0.53",
        "--dhcp-option=option:ntp-server,10.77.0.1",
        "--dhcp-option=option:domain-name,home.arpa",
        "--dhcp-option=option6:dns-server,[fd77::53]",
        "--dhcp-option=option:T1,3",
    ]);
    let service = Service::start(&network, &[]);
    service.wait_for_notice("READY=1\nSTATUS=eth0 10.77.0.42");
    let state = service.wait_for_state("addresses, DNS and time", |state| {
        has_ipv4(state, "eth0")
            && state["dns"] == json!(["10.77.0.53", "fd77::53"])
            && state["ntp"]["status"] == "synchronised"
    });
    let eth0 = interface(&state, "eth0");
    assert_eq!(eth0["mac"], MAC);
    assert_eq!(eth0["state"], "configured");
    assert_eq!(eth0["ipv4"], json!(["10.77.0.42/24"]));
    assert_eq!(eth0["gateway"], SERVER);
    assert_eq!(eth0["hostname"], "kos-test");
    assert_eq!(eth0["lease"]["server"], SERVER);
    assert_eq!(eth0["lease"]["lifetime_s"], 120);
    assert_eq!(state["ntp"]["server"], SERVER);
    assert_eq!(state["ntp"]["source"], "dhcp");
    assert_eq!(state["ntp"]["stepped"], false);
    let offset = state["ntp"]["offset_ms"].as_f64().unwrap();
    assert!((offset - 250.0).abs() < 200.0, "{offset}");
    let conf = std::fs::read_to_string(service.path("resolv.conf")).unwrap();
    assert_eq!(
        conf,
        "# by kos-net\nsearch home.arpa\nnameserver 10.77.0.53\nnameserver fd77::53\n"
    );
    // IPv6 is the kernel's work; what it made is told.
    service.wait_for_state("an IPv6 address", |state| {
        let list = interface(state, "eth0")["ipv6"].to_string();
        list.contains("fd77::") && interface(state, "eth0")["ipv6_routers"] != json!([])
    });
    let routes = Command::new("ip")
        .args(["-n", &network.client, "-4", "route"])
        .output()
        .unwrap();
    let routes = String::from_utf8(routes.stdout).unwrap();
    assert!(
        routes.contains("default via 10.77.0.1 dev eth0 proto dhcp"),
        "{routes}"
    );

    service.process.wait_for_line("10.77.0.42 renewed");
    let Service {
        process, directory, ..
    } = service;
    assert!(process.terminate());
    server.wait_for_line("DHCPRELEASE(cable0) 10.77.0.42");
    let last = std::fs::read_to_string(directory.path().join("state.json")).unwrap();
    let last: Value = serde_json::from_str(&last).unwrap();
    assert_eq!(interface(&last, "eth0")["lease"], Value::Null);
    let addresses = Command::new("ip")
        .args(["-n", &network.client, "-4", "address", "show", "eth0"])
        .output();
    assert!(addresses.unwrap().stdout.is_empty());
}

#[test]
fn it_boots_without_a_server_through_noise_and_finds_one_later() {
    if !is_wanted() {
        return;
    }
    let network = Network::new();
    let noise = network.server_socket("10.77.0.1:67");
    noise.set_broadcast(true).unwrap();
    let service = Service::start(&network, &[]);
    service.wait_for_notice("READY=1\nSTATUS=eth0 has no address yet");
    let is_over = Arc::new(AtomicBool::new(false));
    let until = Arc::clone(&is_over);
    let sender = std::thread::spawn(move || {
        // Knuth's generator: the same noise at every run.
        let mut state = 7_u64;
        let mut byte = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56) as u8
        };
        let mut sent = 0;
        while sent < 20_000 && !until.load(Ordering::Relaxed) {
            let length = 200 + usize::from(byte()) * 4;
            let mut packet: Vec<u8> = (0..length).map(|_| byte()).collect();
            // Most look like an answer: BOOTREPLY, Ethernet, and DHCP's magic number.
            if byte() > 40 && packet.len() > 244 {
                packet[..4].copy_from_slice(&[2, 1, 6, 0]);
                packet[236..240].copy_from_slice(&[99, 130, 83, 99]);
                packet[240..243].copy_from_slice(&[53, 1, 2]);
            }
            noise.send_to(&packet, "10.77.0.255:68").unwrap();
            sent += 1;
        }
        sent
    });
    service.wait_for_state("silence told", |state| {
        interface(state, "eth0")["error"] == "no DHCP server has answered yet"
    });
    is_over.store(true, Ordering::Relaxed);
    assert!(sender.join().unwrap() > 1000);
    let _server = network.dnsmasq(&[]);
    service.wait_for_state("an address", |state| has_ipv4(state, "eth0"));
    service.wait_for_notice("STATUS=eth0 10.77.0.");
}

#[test]
fn cables_come_and_go() {
    if !is_wanted() {
        return;
    }
    let network = Network::new();
    // A day ahead: the clock would be set, which the service may not do here.
    time_server(network.server_socket("10.77.0.1:1123"), 86_400.0);
    let _server = network.dnsmasq(&[]);
    let service = Service::start(&network, &["--ntp", "10.77.0.1:1123"]);
    let state = service.wait_for_state("an address", |state| has_ipv4(state, "eth0"));
    let address = interface(&state, "eth0")["ipv4"].clone();
    service.wait_for_state("the kernel's refusal", |state| {
        state["ntp"]["status"]
            .as_str()
            .is_some_and(|text| text.contains("cannot set the clock"))
    });

    run(
        "ip",
        &["-n", &network.server, "link", "set", "cable0", "down"],
    );
    service.wait_for_state("no carrier", |state| {
        is_in_state(state, "eth0", "no-carrier")
    });
    run(
        "ip",
        &["-n", &network.server, "link", "set", "cable0", "up"],
    );
    let state = service.wait_for_state("carrier", |state| is_in_state(state, "eth0", "configured"));
    assert_eq!(interface(&state, "eth0")["ipv4"], address);
    service.process.wait_for_line("renewed");

    network.plug("cable1", "eth1", "02:00:00:00:77:03");
    run(
        "ip",
        &[
            "-n",
            &network.server,
            "address",
            "add",
            "10.78.0.1/24",
            "dev",
            "cable1",
        ],
    );
    service.wait_for_state("a second link", |state| {
        is_in_state(state, "eth1", "configuring")
    });
    run("ip", &["-n", &network.client, "link", "delete", "eth0"]);
    service.wait_for_state("the first link gone", |state| {
        interface(state, "eth0").is_null() && !interface(state, "eth1").is_null()
    });
    assert!(service.process.terminate());
}
