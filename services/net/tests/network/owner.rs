//! The owner's settings: a fixed address, in place of DHCP on one interface and only there.

use std::net::UdpSocket;
use std::process::Command;

use serde_json::json;

use crate::fixture::{Network, SERVER, Service, is_wanted, run};
use crate::{has_ipv4, interface};

fn settings(text: &str) -> [(&str, &str); 1] {
    [("network-settings", text)]
}

fn in_client(network: &Network, arguments: &[&str]) -> String {
    let output = Command::new("ip")
        .args(["-n", &network.client])
        .args(arguments)
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Whether the box answers at an address: a closed port of a machine that is there says so.
fn answers(network: &Network, address: &str) -> bool {
    let socket: UdpSocket = network.server_socket("10.77.0.1:0");
    socket.connect((address, 9)).unwrap();
    socket
        .set_read_timeout(Some(crate::fixture::LIMIT))
        .unwrap();
    socket.send(b"?").unwrap();
    let error = socket.recv(&mut [0; 8]).unwrap_err();
    error.kind() == std::io::ErrorKind::ConnectionRefused
}

#[test]
fn a_fixed_address_takes_the_place_of_dhcp() {
    if !is_wanted() {
        return;
    }
    let network = Network::new();
    let _server = network.dnsmasq(&["--dhcp-option=option:dns-server,10.77.0.53"]);
    let text = "address = '10.77.0.20/24'\ngateway = '10.77.0.1'\ndns = ['9.9.9.9', '10.77.0.1']";
    let service = Service::with_credentials(&network, &[], &settings(text));
    service.wait_for_notice("READY=1\nSTATUS=eth0 10.77.0.20");
    let state = service.wait_for_state("the address", |state| {
        has_ipv4(state, "eth0") && interface(state, "eth0")["state"] == "configured"
    });
    let eth0 = interface(&state, "eth0");
    assert_eq!(eth0["method"], "static");
    assert_eq!(eth0["ipv4"], json!(["10.77.0.20/24"]));
    assert_eq!(eth0["gateway"], SERVER);
    assert!(eth0["lease"].is_null());
    assert_eq!(state["dns"], json!(["9.9.9.9", "10.77.0.1"]));
    assert_eq!(state["errors"], json!([]));
    let routes = in_client(&network, &["-4", "route"]);
    let default = "default via 10.77.0.1 dev eth0 proto static metric";
    assert!(routes.contains(default), "{routes}");
    assert!(answers(&network, "10.77.0.20"));

    // The cable is out and back: it is still there.
    for way in ["down", "up"] {
        run("ip", &["-n", &network.server, "link", "set", "cable0", way]);
        let wanted = if way == "up" {
            "configured"
        } else {
            "no-carrier"
        };
        service.wait_for_state(wanted, |state| interface(state, "eth0")["state"] == wanted);
    }
    assert!(answers(&network, "10.77.0.20"));
    // The service may restart meanwhile; nobody who talks to the box shall notice.
    assert!(service.process.terminate());
    let addresses = in_client(&network, &["-4", "address", "show", "eth0"]);
    assert!(addresses.contains("10.77.0.20/24"), "{addresses}");
}

#[test]
fn a_wrong_interface_is_told_and_the_others_use_dhcp() {
    if !is_wanted() {
        return;
    }
    let network = Network::new();
    let _server = network.dnsmasq(&[]);
    let text = "interface = 'eth7'\naddress = '10.77.0.20/24'";
    let wifi = "country = 'DE'\nssid = 'attic'\npassphrase = 'correct horse'";
    let [network_settings] = settings(text);
    let credentials = [network_settings, ("wifi-settings", wifi)];
    let service = Service::with_credentials(&network, &[], &credentials);
    let state = service.wait_for_state("a lease", |state| has_ipv4(state, "eth0"));
    assert_eq!(interface(&state, "eth0")["method"], "dhcp");
    let told = "network.interface: no interface 'eth7'; there is eth0, which uses DHCP";
    let state = service.wait_for_state("the wrong name", |state| {
        state["errors"].to_string().contains(told)
    });
    let errors = state["errors"].to_string();
    assert!(errors.contains("cannot use Wi-Fi"), "{errors}");
    assert!(!errors.contains("horse"), "{errors}");
    service.wait_for_notice(told);

    // It was only late.
    network.plug("cable1", "eth7", "02:00:00:00:77:07");
    let state = service.wait_for_state("the late one", |state| has_ipv4(state, "eth7"));
    assert_eq!(interface(&state, "eth7")["ipv4"], json!(["10.77.0.20/24"]));
    assert_eq!(interface(&state, "eth7")["method"], "static");
    assert!(!state["errors"].to_string().contains("eth7"));
    assert!(service.process.terminate());
}

#[test]
fn a_fixed_ipv6_address_stands_beside_dhcp() {
    if !is_wanted() {
        return;
    }
    let network = Network::new();
    let _server = network.dnsmasq(&[]);
    let text = "interface = 'eth0'\naddress = 'fd77::20/64'\ngateway = 'fd77::1'";
    let service = Service::with_credentials(&network, &[], &settings(text));
    let state = service.wait_for_state("both", |state| {
        let eth0 = interface(state, "eth0");
        has_ipv4(state, "eth0") && eth0["ipv6"].to_string().contains("fd77::20/64")
    });
    assert_eq!(interface(&state, "eth0")["method"], "dhcp");
    let routes = in_client(&network, &["-6", "route"]);
    let default = "default via fd77::1 dev eth0 proto static";
    assert!(routes.contains(default), "{routes}");
    assert!(service.process.terminate());
}

#[test]
fn wrong_settings_change_nothing() {
    if !is_wanted() {
        return;
    }
    let network = Network::new();
    let _server = network.dnsmasq(&[]);
    let text = "address = '10.77.0.20/24'\ngateway = '10.78.0.1'";
    let service = Service::with_credentials(&network, &[], &settings(text));
    let state = service.wait_for_state("a lease", |state| has_ipv4(state, "eth0"));
    assert_eq!(interface(&state, "eth0")["method"], "dhcp");
    let errors = state["errors"].to_string();
    assert!(
        errors.contains("the network settings are not used"),
        "{errors}"
    );
    assert!(errors.contains("found '10.78.0.1'"), "{errors}");
    assert!(service.process.terminate());
}
