//! What the owner may add and change, and what not.

use super::*;

const IMAGE: &str = r#"
name = "api"
description = "The door"
program = "/bin/kos-api"
uid = 1003
credentials = ["pairing-code"]
[sandbox]
network = "host"
listen = [80]
runtime = true
"#;
const OWNER: &str = r#"
name = "agent"
description = "The owner's agent"
program = "/data/programs/agent"
uid = 20001
"#;

fn layered(file: &str, text: &str) -> Result<ServiceSet, ManifestError> {
    ServiceSet::parse_layers(
        [
            ("api.toml".to_owned(), IMAGE.to_owned()),
            ("echo.toml".to_owned(), GOOD.to_owned()),
        ],
        [(format!("/data/services/{file}"), text.to_owned())],
        &sets(),
    )
}

#[test]
fn a_new_service_is_added() {
    let text = format!(
        "{OWNER}after = [\"api\"]\n[sandbox]\nstate = true\nread = [\"/data/models/small\", \
         \"/run/kos/api\", \"/data/agent\"]\nwrite = [\"/data/agent/x\", \"/data/cache/agent\", \
         \"/run/kos/agent\"]\nexecute = [\"/bin/agent-helper\"]\ncontrol = \"observe\"\n\
         [[steps.pre-start]]\nprogram = \"/bin/echo\"\n"
    );
    let set = layered("agent.toml", &text).unwrap();
    assert_eq!(set.get("agent").unwrap().origin, Origin::Box);
    assert_eq!(set.get("api").unwrap().origin, Origin::Image);
    assert_eq!(set.len(), 3);
}

#[test]
fn a_new_service_gets_less_than_an_images() {
    let sandbox = |line: &str| format!("{OWNER}[sandbox]\n{line}\n");
    for (text, error) in [
        (
            OWNER.replace("20001", "1500"),
            "5:7: uid: found 1500, allowed: 20000 to 59999",
        ),
        (
            OWNER.replace("20001", "60000"),
            "5:7: uid: found 60000, allowed: 1000 to 59999",
        ),
        (
            OWNER.replace("/data/programs/", "/data/models/"),
            "4:11: program: found '/data/models/agent', allowed: below /bin or /data/programs",
        ),
        (
            OWNER.replace("/data/programs/", "/binary/"),
            "4:11: program",
        ),
        (
            format!("{OWNER}essential = true\n"),
            "2:8: essential: found true, allowed: false",
        ),
        (
            format!("{OWNER}credentials = [\"owner-key\"]\n"),
            "6:16: credentials: found 'owner-key', allowed: none",
        ),
        (
            sandbox("capabilities = [\"net_raw\"]"),
            "7:17: sandbox.capabilities: found 'net_raw', allowed: none",
        ),
        (
            sandbox("control = \"operate\""),
            "2:8: sandbox.control: found more, allowed: none, observe",
        ),
        (sandbox("control = \"name\""), "2:8: sandbox.control"),
        (
            sandbox("write = [\"/data/models\"]"),
            "7:10: sandbox.write: found '/data/models', allowed: below /data/agent, /data/cache/agent, /run/kos/agent",
        ),
        (sandbox("write = [\"/data/agents\"]"), "7:10: sandbox.write"),
        (
            sandbox("read = [\"/data/api\"]"),
            "7:9: sandbox.read: found '/data/api', allowed: below /run/kos/api, /data/models",
        ),
        // `echo` has no runtime directory, and nobody's secrets are to be had.
        (sandbox("read = [\"/run/kos/echo\"]"), "7:9: sandbox.read"),
        (
            sandbox("read = [\"/run/kos/credentials/api\"]"),
            "7:9: sandbox.read",
        ),
        (
            sandbox("execute = [\"/data/agent\"]"),
            "7:12: sandbox.execute: found '/data/agent', allowed: below /bin or /data/programs",
        ),
        (
            format!("{OWNER}[[steps.post-stop]]\nprogram = \"/data/agent/x\"\n"),
            "7:11: steps.post-stop.program",
        ),
    ] {
        let found = layered("agent.toml", &text).unwrap_err().to_string();
        let wanted = format!("/data/services/agent.toml:{error}");
        assert!(
            found.starts_with(&wanted),
            "{text}\n  wanted {wanted}\n  got    {found}"
        );
    }
}

#[test]
fn a_changed_service_keeps_what_makes_it_what_it_is() {
    let limited = format!("{IMAGE}[limits]\nmemory = \"64M\"\n[restart]\ndelay = \"1s\"\n");
    let set = layered("api.toml", &limited).unwrap();
    let api = set.get("api").unwrap();
    assert_eq!(
        (api.limits.memory, api.origin),
        (Some(64 << 20), Origin::Box)
    );
    for (text, error) in [
        (
            IMAGE.replace("kos-api", "kos-net"),
            "4:11: program: found '/bin/kos-net', allowed: the image's, '/bin/kos-api'",
        ),
        (
            IMAGE.replace("1003", "1004"),
            "5:7: uid: found 1004, allowed: the image's, 1003",
        ),
        (
            IMAGE.replace("pairing-code", "owner-key"),
            "2:8: credentials: found [owner-key], allowed: the image's, [pairing-code]",
        ),
        (
            IMAGE.replace("[80]", "[80, 81]"),
            "2:8: sandbox: found another one",
        ),
        (
            format!("{IMAGE}[[steps.pre-start]]\nprogram = \"/data/programs/thief\"\n"),
            "12:11: steps.pre-start.program: found '/data/programs/thief', allowed: below /bin",
        ),
    ] {
        let found = layered("api.toml", &text).unwrap_err().to_string();
        let wanted = format!("/data/services/api.toml:{error}");
        assert!(
            found.starts_with(&wanted),
            "{text}\n  wanted {wanted}\n  got    {found}"
        );
    }
}

#[test]
fn the_image_holds_together_without_the_owners() {
    let image = format!("{GOOD}wants = [\"agent\"]\n");
    let error = ServiceSet::parse_layers(
        [("echo.toml".to_owned(), image)],
        [("agent.toml".to_owned(), OWNER.to_owned())],
        &sets(),
    )
    .unwrap_err();
    assert!(
        error.to_string().starts_with("echo.toml:6:10: wants"),
        "{error}"
    );
}

#[test]
fn an_instance_that_the_owner_adds_is_a_new_service() {
    let template = "name = \"camera@\"\ndescription = \"d\"\nprogram = \"/bin/camera\"\n";
    let parse = |instances: &str| {
        ServiceSet::parse_layers(
            [(
                "camera@.toml".to_owned(),
                format!("{template}instances = {{ a = 1500 }}\n"),
            )],
            [(
                "camera@.toml".to_owned(),
                format!("{template}instances = {instances}\n"),
            )],
            &sets(),
        )
    };
    // The image's instance stays, whether the owner's manifest names it or not.
    let set = parse("{ b = 20001 }").unwrap();
    let uids: Vec<u32> = set.iter().map(|service| service.uid).collect();
    assert_eq!(uids, [1500, 20_001]);
    let error = parse("{ a = 20001 }").unwrap_err().to_string();
    assert!(
        error.contains("4:19: instances: found 20001, allowed: the image's, 1500"),
        "{error}"
    );
    let error = parse("{ b = 1501 }").unwrap_err().to_string();
    assert!(
        error.contains("4:19: instances: found 1501, allowed: 20000 to 59999"),
        "{error}"
    );
}
