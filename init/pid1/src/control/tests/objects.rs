//! Every object from `/` down: what it says of itself is what it does, and what the reference says.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use zbus::{Connection as Client, OwnedObjectPath, OwnedVariant};

use super::realm::OPERATOR;
use super::{Server, call};
use crate::control::interface::{Argument, Interface};
use crate::control::manager::MANAGER;
use crate::control::service::SERVICE;
use crate::control::standard::{BUS, INTROSPECTABLE, MONITORING, OBJECT_MANAGER, PEER, PROPERTIES};

const REFERENCE: &str = include_str!("../../../../../docs/dbus.md");

/// The attributes of the tags of one kind, in order.
fn attributes(xml: &str, tag: &str) -> Vec<HashMap<String, String>> {
    let start = format!("<{tag} ");
    xml.split(start.as_str())
        .skip(1)
        .map(|rest| {
            let inside = rest.split('>').next().unwrap().trim_end_matches('/');
            let mut words = inside.split('"');
            let mut found = HashMap::new();
            while let (Some(key), Some(value)) = (words.next(), words.next()) {
                let key = key.trim().trim_end_matches('=').to_owned();
                found.insert(key, value.to_owned());
            }
            found
        })
        .collect()
}

/// The interfaces of a document, each with its part of it.
fn interfaces(xml: &str) -> BTreeMap<String, String> {
    xml.split("<interface ")
        .skip(1)
        .map(|part| {
            let part = part.split("</interface>").next().unwrap();
            let name = part.split('"').nth(1).unwrap();
            (name.to_owned(), part.to_owned())
        })
        .collect()
}

async fn introspect(client: &Client, path: &str) -> String {
    call(client, path, INTROSPECTABLE.name, "Introspect", &())
        .await
        .unwrap()
}

/// All objects' paths, found as a browser finds them.
async fn tree(client: &Client) -> Vec<String> {
    let (mut found, mut look) = (Vec::new(), vec!["/".to_owned()]);
    while let Some(path) = look.pop() {
        let xml = introspect(client, &path).await;
        for node in attributes(&xml, "node") {
            look.push(format!("{}/{}", path.trim_end_matches('/'), node["name"]));
        }
        found.push(path);
    }
    found
}

#[tokio::test]
async fn the_tree_is_walked_from_its_root() {
    let server = Server::new();
    let client = server.client(OPERATOR).await;
    let mut found = tree(&client).await;
    found.sort();
    assert_eq!(
        found,
        [
            "/",
            "/org",
            "/org/freedesktop",
            "/org/freedesktop/DBus",
            "/org/kos",
            "/org/kos/Init1",
            "/org/kos/Init1/service",
            "/org/kos/Init1/service/camera_40garage",
            "/org/kos/Init1/service/my_2dagent",
        ]
    );
}

#[tokio::test]
async fn every_method_that_is_told_is_there_and_answers_as_told() {
    let server = Server::new();
    let client = server.client(OPERATOR).await;
    for path in tree(&client).await {
        for (interface, part) in interfaces(&introspect(&client, &path).await) {
            for method in part.split("<method ").skip(1) {
                let method = method.split("</method>").next().unwrap();
                let name = method.split('"').nth(1).unwrap();
                let arguments = attributes(method, "arg");
                let of = |direction: &str| -> String {
                    let these = arguments.iter().filter(|arg| arg["direction"] == direction);
                    these.map(|arg| arg["type"].as_str()).collect()
                };
                let answer = called(&client, &path, &interface, name, &of("in")).await;
                match answer {
                    Ok(signature) => assert_eq!(signature, bare(&of("out")), "{interface}.{name}"),
                    Err(error) => assert!(
                        error.contains("NoSuchService")
                            || error.contains("PropertyReadOnly")
                            || error.contains("UnknownInterface")
                            || error.contains("NameHasNoOwner"),
                        "{interface}.{name}: {error}"
                    ),
                }
            }
        }
    }
}

/// A signature without the parentheses of its one structure, which zbus leaves out when it reads.
fn bare(signature: &str) -> String {
    let parsed = zbus::wire::Signature::try_from(signature).unwrap();
    parsed.to_string_no_parens()
}

/// Calls a method with arguments of its signature; gives the answer's signature.
async fn called(
    client: &Client,
    path: &str,
    interface: &str,
    name: &str,
    takes: &str,
) -> Result<String, String> {
    let call = |name: String| {
        zbus::Message::method_call(path.to_owned(), name).interface(interface.to_owned())
    };
    let builder = call(name.to_owned());
    let value = zbus::Variant::from(1_u32);
    let message = match takes {
        "" => builder.build(&()),
        "s" => builder.build(&"my-agent"),
        "asu" => builder.build(&(Vec::<&str>::new(), 0_u32)),
        "i" => builder.build(&15_i32),
        "si" => builder.build(&("my-agent", 15_i32)),
        "ss" => builder.build(&("my-agent", "x")),
        "ssv" => builder.build(&("my-agent", "x", value)),
        "tu" => builder.build(&(0_u64, 1_u32)),
        "stuu" => builder.build(&("my-agent", 0_u64, 1_u32, 1_u32)),
        "sa(st)uu" => builder.build(&("", Vec::<(&str, u64)>::new(), 1_u32, 1_u32)),
        other => panic!("{interface}.{name} takes {other}: tell this test how to call it"),
    }
    .unwrap();
    let serial = message.primary_header().serial_num();
    let mut stream = zbus::MessageStream::from(client);
    client.send(&message).await.unwrap();
    loop {
        let next = std::future::poll_fn(|context| {
            let stream = std::pin::Pin::new(&mut stream);
            zbus::export::futures_core::Stream::poll_next(stream, context)
        })
        .await
        .unwrap()
        .unwrap();
        if next.header().reply_serial() != Some(serial) {
            continue;
        }
        if let Some(error) = next.header().error_name() {
            return Err(error.to_string());
        }
        return Ok(next.header().signature().to_string_no_parens());
    }
}

#[tokio::test]
async fn every_property_that_is_told_has_a_value_of_its_type() {
    let server = Server::new();
    let client = server.client(OPERATOR).await;
    for path in tree(&client).await {
        for (interface, part) in interfaces(&introspect(&client, &path).await) {
            let told: BTreeMap<String, String> = attributes(&part, "property")
                .into_iter()
                .map(|mut property| {
                    assert_eq!(property["access"], "read");
                    (
                        property.remove("name").unwrap(),
                        property.remove("type").unwrap(),
                    )
                })
                .collect();
            if !xml_has_properties(&path) {
                assert!(told.is_empty());
                continue;
            }
            let all: HashMap<String, OwnedVariant> = call(
                &client,
                &path,
                PROPERTIES.name,
                "GetAll",
                &interface.as_str(),
            )
            .await
            .unwrap();
            let are: BTreeMap<String, String> = all
                .iter()
                .map(|(name, value)| (name.clone(), value.value_signature().to_string()))
                .collect();
            assert_eq!(told, are, "{path} {interface}");
            for name in told.keys() {
                let one: OwnedVariant = call(
                    &client,
                    &path,
                    PROPERTIES.name,
                    "Get",
                    &(interface.as_str(), name.as_str()),
                )
                .await
                .unwrap();
                assert_eq!(one, all[name], "{name}");
            }
        }
    }
}

fn xml_has_properties(path: &str) -> bool {
    path.starts_with("/org/kos/Init1") && path != "/org/kos/Init1/service"
}

#[tokio::test]
async fn what_is_not_there_is_said_to_be_not_there() {
    let server = Server::new();
    let client = server.client(OPERATOR).await;
    let manager = "/org/kos/Init1";
    let told = async |path: &str, interface: &str, method: &str| {
        let answer: Result<(), _> = call(&client, path, interface, method, &()).await;
        answer.unwrap_err().0.rsplit('.').next().unwrap().to_owned()
    };
    assert_eq!(
        told("/org/kos/Init2", MANAGER.name, "Reload").await,
        "UnknownObject"
    );
    let gone = "/org/kos/Init1/service/gone";
    assert_eq!(told(gone, SERVICE.name, "Start").await, "UnknownObject");
    assert_eq!(
        told(manager, "org.kos.Init2", "Reload").await,
        "UnknownInterface"
    );
    assert_eq!(
        told(manager, SERVICE.name, "Start").await,
        "UnknownInterface"
    );
    assert_eq!(
        told(manager, MANAGER.name, "Explode").await,
        "UnknownMethod"
    );
    assert_eq!(told(manager, MANAGER.name, "Start").await, "InvalidArgs");
    assert_eq!(
        told("/org", PROPERTIES.name, "GetAll").await,
        "UnknownInterface"
    );
    let wrong: Result<(), _> = call(
        &client,
        manager,
        MANAGER.name,
        "Kill",
        &("my-agent", 15_u64),
    )
    .await;
    assert!(wrong.unwrap_err().0.ends_with("InvalidArgs"));
    let wrong: Result<OwnedVariant, _> = call(
        &client,
        manager,
        PROPERTIES.name,
        "Get",
        &(MANAGER.name, "Colour"),
    )
    .await;
    assert!(wrong.unwrap_err().0.ends_with("UnknownProperty"));
}

#[tokio::test]
async fn managed_objects_are_the_services() {
    let server = Server::new();
    let client = server.client(OPERATOR).await;
    type Objects = HashMap<OwnedObjectPath, HashMap<String, HashMap<String, OwnedVariant>>>;
    let objects: Objects = call(
        &client,
        "/org/kos/Init1",
        OBJECT_MANAGER.name,
        "GetManagedObjects",
        &(),
    )
    .await
    .unwrap();
    let camera = &objects
        .iter()
        .find(|(path, _)| path.as_str().ends_with("/camera_40garage"))
        .unwrap()
        .1;
    let name = &camera[SERVICE.name]["Name"];
    assert_eq!(
        *name,
        zbus::Variant::from("camera@garage")
            .try_into_owned()
            .unwrap()
    );
    assert!(camera.contains_key(PEER.name));
    let path: OwnedObjectPath = call(
        &client,
        "/org/kos/Init1",
        MANAGER.name,
        "GetService",
        &"camera@garage",
    )
    .await
    .unwrap();
    assert!(objects.contains_key(&path));
}

/// The reference has a row for everything, and nothing else.
#[test]
fn the_reference_is_in_step() {
    let mut are = BTreeSet::new();
    rows(&MANAGER, &mut are);
    rows(&SERVICE, &mut are);
    for interface in [
        &PEER,
        &INTROSPECTABLE,
        &PROPERTIES,
        &OBJECT_MANAGER,
        &BUS,
        &MONITORING,
    ] {
        rows(interface, &mut are);
    }
    let mut told = BTreeSet::new();
    let mut interface = "";
    for line in REFERENCE.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            interface = heading.trim_matches('`');
        }
        let mut cells = line.split(" | ");
        let (first, second) = (cells.next().unwrap_or(""), cells.next().unwrap_or(""));
        let kinds = ["| `method ", "| `signal ", "| `property "];
        if kinds.iter().any(|kind| line.starts_with(kind)) {
            let row = first.trim_start_matches("| ").trim_matches('`');
            // Who sends a signal is for people.
            let second = if row.starts_with("signal") {
                ""
            } else {
                second
            };
            told.insert(format!("{interface}: {row} | {second}"));
        }
    }
    let missing: Vec<_> = are.difference(&told).collect();
    let wrong: Vec<_> = told.difference(&are).collect();
    assert!(
        missing.is_empty() && wrong.is_empty(),
        "docs/dbus.md: missing {missing:#?}, not there {wrong:#?}"
    );
}

fn rows<T>(interface: &Interface<T>, rows: &mut BTreeSet<String>) {
    let list = |arguments: &[Argument]| {
        let each = arguments
            .iter()
            .map(|argument| format!("{} {}", short((argument.signature)()), argument.name));
        each.collect::<Vec<_>>().join(", ")
    };
    let mut row = |text: String, note: &str| {
        rows.insert(format!("{}: {text} | {note}", interface.name));
    };
    for method in interface.methods {
        let gives = list(method.gives);
        let arrow = if gives.is_empty() { "" } else { " → " };
        let takes = list(method.takes);
        let grant = format!("{:?}", method.grant).to_lowercase();
        row(
            format!("method {}({takes}){arrow}{gives}", method.name),
            &grant,
        );
    }
    for signal in interface.signals {
        row(
            format!("signal {}({})", signal.name, list(signal.carries)),
            "",
        );
    }
    for property in interface.properties {
        let text = format!("property {} {}", (property.signature)(), property.name);
        row(text, property.emits.as_str());
    }
}

/// A long structure is known by its Rust type; the reference leaves its letters out.
fn short(signature: String) -> String {
    match (signature.find('('), signature.rfind(')')) {
        (Some(start), Some(end)) if end - start > 12 => {
            format!("{}(…){}", &signature[..start], &signature[end + 1..])
        }
        _ => signature,
    }
}
