//! What an owner may write, what is refused, and how well the refusal says so.

use super::*;

const FULL: &str = r#"hostname = "kitchen"
owner-key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0Hkm5ZHcXvUGmAFMUbKSB/3sXAt7cv5kkBcQL0WfdM me@desk"

[network]
interface = "eth0"
address = "192.168.1.20/24"
gateway = "192.168.1.1"
dns = ["192.168.1.1", "2001:db8::53"]

[wifi]
country = "DE"
ssid = 'Bob"s \ network'
passphrase = "a\"b\\c'd 123"
"#;

fn refused(text: &str) -> String {
    BoxSettings::parse("kos-box.toml", text)
        .unwrap_err()
        .to_string()
}

#[test]
fn all_of_it_is_read_and_written_back() {
    let settings = BoxSettings::parse("kos-box.toml", FULL).unwrap();
    let wifi = settings.wifi.as_ref().unwrap();
    assert_eq!(wifi.ssid.as_str(), "Bob\"s \\ network");
    assert_eq!(wifi.passphrase.reveal(), "a\"b\\c'd 123");
    let network = settings.network.as_ref().unwrap();
    assert_eq!(network.address.unwrap().to_string(), "192.168.1.20/24");
    assert_eq!(network.dns.len(), 2);
    let again = BoxSettings::parse("again", &settings.to_toml()).unwrap();
    assert_eq!(again, settings);
    assert_eq!(
        NetworkSettings::parse("part", &network.to_toml()).unwrap(),
        *network
    );
    assert_eq!(WifiSettings::parse("part", &wifi.to_toml()).unwrap(), *wifi);
}

#[test]
fn nothing_is_needed() {
    let empty = BoxSettings::parse("kos-box.toml", "").unwrap();
    assert_eq!(empty, BoxSettings::default());
    assert_eq!(BoxSettings::parse("x", &empty.to_toml()).unwrap(), empty);
    let dns_only = BoxSettings::parse("x", "[network]\ndns = [\"9.9.9.9\"]").unwrap();
    assert_eq!(dns_only.network.unwrap().address, None);
}

#[test]
fn an_error_says_file_line_key_found_and_allowed() {
    let error = refused(&FULL.replace("192.168.1.20/24", "192.168.1.20/64"));
    assert!(
        error.starts_with("kos-box.toml:6:11: network.address: found '192.168.1.20/64', allowed:")
    );
    let error = refused(&FULL.replace("\"192.168.1.1\"\n", "\"192.168.2.1\"\n"));
    assert!(error.contains(":7:11: network.gateway: found '192.168.2.1', allowed: another"));
    let error = refused(&FULL.replace("hostname", "host-name"));
    assert!(
        error.contains(":1:1") && error.contains("hostname"),
        "{error}"
    );
    let error = refused(&FULL.replace("ssid", "sid"));
    assert!(
        error.contains("wifi") && error.contains("passphrase"),
        "{error}"
    );
    let error = refused("[wifi]\ncountry = \"DE\"\nssid = \"x\"\n");
    assert!(error.contains("passphrase"), "{error}");
}

#[test]
fn a_gateway_must_be_reachable() {
    let with = |address: &str, gateway: &str| {
        format!("[network]\naddress = \"{address}\"\ngateway = \"{gateway}\"\n")
    };
    assert!(BoxSettings::parse("x", &with("fd00::2/64", "fe80::1")).is_ok());
    for (address, gateway) in [
        ("10.0.0.2/24", "10.0.1.1"),
        ("10.0.0.2/24", "10.0.0.2"),
        ("10.0.0.2/24", "fe80::1"),
        ("fd00::2/64", "10.0.0.1"),
    ] {
        assert!(refused(&with(address, gateway)).contains("gateway"));
    }
    assert!(refused("[network]\ngateway = \"10.0.0.1\"\n").contains("without an address"));
}

#[test]
fn everything_is_bounded() {
    let servers = ["\"9.9.9.9\""; MAX_DNS + 1].join(",");
    assert!(refused(&format!("[network]\ndns = [{servers}]\n")).contains("allowed: 8"));
    assert!(refused(&"#".repeat(MAX_SETTINGS_BYTES + 1)).contains("allowed: 65536"));
}
