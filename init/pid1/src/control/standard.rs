//! The interfaces of D-Bus itself, as PID 1's objects have them.
//!
//! Some clients (`busctl` among them) believe that whoever listens is a bus. They get the little of
//! one that they cannot do without: a name for themselves, and signals when they ask as one asks a
//! bus. Whatever match they ask for, they are told everything, as they can sift it.
//!
//! `org.freedesktop.DBus.Peer` is here without `GetMachineId`: a box has no such number. Nothing
//! can be set, so `Set` always refuses.

use std::collections::HashMap;

use kos_manifest::service::ControlGrant::{None as Anybody, Observe};
use zbus::{Message, OwnedObjectPath, Variant};

use crate::control::call::{Call, arguments_of, done, give, path_of};
use crate::control::error::ControlError;
use crate::control::interface::{Argument, Interface, Method, Property, Signal, arguments};
use crate::control::manager::{self, MANAGER};
use crate::control::path::{self, Object};
use crate::control::realm::{Realm, ServiceFacts};
use crate::control::service::SERVICE;

/// Services that are described in one turn of the event loop: their facts take some eight reads
/// of the kernel's files each.
const SERVICES_PER_TURN: usize = 16;

/// The head of an introspection document, as the D-Bus specification gives it.
const DOCTYPE: &str = "<!DOCTYPE node PUBLIC \"-//freedesktop//DTD D-BUS Object Introspection 1.0//EN\"\n \"http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd\">\n";

type Values = HashMap<String, Variant<'static>>;
type Interfaces = HashMap<String, Values>;

/// Whether somebody is there.
pub static PEER: Interface<()> = Interface {
    name: "org.freedesktop.DBus.Peer",
    methods: &[Method {
        name: "Ping",
        takes: arguments![],
        gives: arguments![],
        grant: Anybody,
        waits: false,
    }],
    properties: &[],
    signals: &[],
};

/// What an object has.
pub static INTROSPECTABLE: Interface<()> = Interface {
    name: "org.freedesktop.DBus.Introspectable",
    methods: &[Method {
        name: "Introspect",
        takes: arguments![],
        gives: arguments![xml_data: &str],
        grant: Observe,
        waits: false,
    }],
    properties: &[],
    signals: &[],
};

/// An object's properties.
pub static PROPERTIES: Interface<()> = Interface {
    name: "org.freedesktop.DBus.Properties",
    methods: &[
        Method {
            name: "Get",
            takes: arguments![interface_name: &str, property_name: &str],
            gives: arguments![value: Variant<'static>],
            grant: Observe,
            waits: false,
        },
        Method {
            name: "GetAll",
            takes: arguments![interface_name: &str],
            gives: arguments![properties: Values],
            grant: Observe,
            waits: false,
        },
        Method {
            name: "Set",
            takes: arguments![interface_name: &str, property_name: &str, value: Variant<'static>],
            gives: arguments![],
            grant: Observe,
            waits: false,
        },
    ],
    properties: &[],
    signals: &[Signal {
        name: "PropertiesChanged",
        carries: arguments![
            interface_name: &str,
            changed_properties: Values,
            invalidated_properties: Vec<&str>,
        ],
    }],
};

/// The objects below the manager.
pub static OBJECT_MANAGER: Interface<()> = Interface {
    name: "org.freedesktop.DBus.ObjectManager",
    methods: &[Method {
        name: "GetManagedObjects",
        takes: arguments![],
        gives: arguments![objects: HashMap<OwnedObjectPath, Interfaces>],
        grant: Observe,
        waits: true,
    }],
    properties: &[],
    signals: &[
        Signal {
            name: "InterfacesAdded",
            carries: arguments![object_path: OwnedObjectPath, interfaces: Interfaces],
        },
        Signal {
            name: "InterfacesRemoved",
            carries: arguments![object_path: OwnedObjectPath, interfaces: Vec<&str>],
        },
    ],
};

/// What is asked of a bus.
pub static BUS: Interface<()> = Interface {
    name: "org.freedesktop.DBus",
    methods: &[
        of_bus("Hello", arguments![], arguments![unique_name: &str]),
        of_bus(
            "GetNameOwner",
            arguments![name: &str],
            arguments![unique_name: &str],
        ),
        of_bus("AddMatch", arguments![rule: &str], arguments![]),
        of_bus("RemoveMatch", arguments![rule: &str], arguments![]),
    ],
    properties: &[],
    signals: &[Signal {
        name: "NameLost",
        carries: arguments![name: &str],
    }],
};

/// What `busctl monitor` asks of a bus.
pub static MONITORING: Interface<()> = Interface {
    name: "org.freedesktop.DBus.Monitoring",
    methods: &[of_bus(
        "BecomeMonitor",
        arguments![rules: Vec<&str>, flags: u32],
        arguments![],
    )],
    properties: &[],
    signals: &[],
};

const fn of_bus(
    name: &'static str,
    takes: &'static [Argument],
    gives: &'static [Argument],
) -> Method {
    Method {
        name,
        takes,
        gives,
        grant: Observe,
        waits: false,
    }
}

/// The client's name, where there is nobody else to be told from.
const CLIENT: &str = ":1.1";

/// PID 1's own.
const SERVER: &str = ":1.0";

/// The signal by which a bus says that a client is a monitor from now on.
///
/// # Errors
/// Never: it is the same each time.
pub fn name_lost() -> Result<Message, ControlError> {
    Message::signal("/org/freedesktop/DBus", BUS.name, "NameLost")
        .sender("org.freedesktop.DBus")
        .build(&CLIENT)
        .map_err(|error| ControlError::Failed(error.to_string()))
}

/// The standard interfaces that an object has.
pub fn of(object: &Object) -> &'static [&'static Interface<()>] {
    static OF_BRANCH: [&Interface<()>; 2] = [&INTROSPECTABLE, &PEER];
    static OF_SERVICE: [&Interface<()>; 3] = [&PROPERTIES, &INTROSPECTABLE, &PEER];
    static OF_MANAGER: [&Interface<()>; 4] = [&OBJECT_MANAGER, &PROPERTIES, &INTROSPECTABLE, &PEER];
    static OF_BUS: [&Interface<()>; 4] = [&BUS, &MONITORING, &INTROSPECTABLE, &PEER];
    match object {
        Object::Branch(_) | Object::Services => &OF_BRANCH,
        Object::Bus => &OF_BUS,
        Object::Service(_) => &OF_SERVICE,
        Object::Manager => &OF_MANAGER,
    }
}

/// Answers a call of a method of one of these; grant and existence have been seen to.
pub async fn answer<R: Realm>(
    call: &Call<R>,
    object: &Object,
    method: &str,
) -> Result<Message, ControlError> {
    let body = call.message.body();
    match method {
        "Ping" => done(&call.message),
        "Hello" => give(&call.message, &CLIENT),
        "GetNameOwner" => match arguments_of(&body)? {
            "org.kos.Init1" | SERVER => give(&call.message, &SERVER),
            CLIENT => give(&call.message, &CLIENT),
            other => Err(ControlError::NameHasNoOwner(format!(
                "nobody has the name '{}', allowed: org.kos.Init1",
                other.chars().take(64).collect::<String>()
            ))),
        },
        // The connection itself sees to these when they have been answered.
        "AddMatch" | "RemoveMatch" => {
            let _rule: &str = arguments_of(&body)?;
            done(&call.message)
        }
        "BecomeMonitor" => {
            let (_rules, _flags): (Vec<&str>, u32) = arguments_of(&body)?;
            done(&call.message)
        }
        "Introspect" => give(&call.message, &document(call, object)),
        "Get" => {
            let (interface, name): (&str, &str) = arguments_of(&body)?;
            give(&call.message, &value(call, object, interface, name)?)
        }
        "GetAll" => give(&call.message, &values(call, object, arguments_of(&body)?)?),
        "Set" => Err(ControlError::PropertyReadOnly(
            "no property can be set; there are methods".to_owned(),
        )),
        "GetManagedObjects" => managed(call).await,
        _ => Err(ControlError::UnknownMethod(format!("there is no {method}"))),
    }
}

/// A service's interfaces and their values.
pub fn interfaces(facts: &ServiceFacts) -> Interfaces {
    let mut interfaces: Interfaces = of(&Object::Service(String::new()))
        .iter()
        .map(|interface| (interface.name.to_owned(), Values::new()))
        .collect();
    interfaces.insert(SERVICE.name.to_owned(), all(SERVICE.properties, facts));
    interfaces
}

async fn managed<R: Realm>(call: &Call<R>) -> Result<Message, ControlError> {
    let mut objects = HashMap::new();
    for (index, name) in call.realm.names().iter().enumerate() {
        if index % SERVICES_PER_TURN == SERVICES_PER_TURN - 1 {
            tokio::task::yield_now().await;
        }
        // One that has gone since is not one of them.
        if let Ok(facts) = call.realm.facts(name) {
            objects.insert(path_of(name)?, interfaces(&facts));
        }
    }
    give(&call.message, &objects)
}

fn document<R: Realm>(call: &Call<R>, object: &Object) -> String {
    let mut xml = format!("{DOCTYPE}<node>\n");
    match object {
        Object::Manager => MANAGER.describe(&mut xml),
        Object::Service(_) => SERVICE.describe(&mut xml),
        Object::Branch(_) | Object::Bus | Object::Services => {}
    }
    for interface in of(object) {
        interface.describe(&mut xml);
    }
    let below = match object {
        Object::Branch(children) => children.iter().map(|child| (*child).to_owned()).collect(),
        Object::Manager => vec!["service".to_owned()],
        Object::Services => call
            .realm
            .names()
            .iter()
            .map(|name| path::escape(name))
            .collect(),
        Object::Bus | Object::Service(_) => Vec::new(),
    };
    for child in below {
        xml += &format!(" <node name=\"{child}\"/>\n");
    }
    xml + "</node>\n"
}

fn value<R: Realm>(
    call: &Call<R>,
    object: &Object,
    interface: &str,
    name: &str,
) -> Result<Variant<'static>, ControlError> {
    let value = match object {
        Object::Service(service) if speaks_of(&SERVICE, interface) => SERVICE
            .property(name)
            .map(|property| Ok((property.get)(&call.realm.facts(service)?))),
        Object::Manager if speaks_of(&MANAGER, interface) => MANAGER
            .property(name)
            .map(|property| Ok((property.get)(&manager::facts(call)))),
        _ if of(object).iter().any(|known| known.name == interface) => None,
        _ => return Err(unknown(interface)),
    };
    value.unwrap_or_else(|| {
        Err(ControlError::UnknownProperty(format!(
            "there is no property '{}'",
            name.chars().take(64).collect::<String>()
        )))
    })
}

fn values<R: Realm>(
    call: &Call<R>,
    object: &Object,
    interface: &str,
) -> Result<Values, ControlError> {
    match object {
        Object::Service(name) if speaks_of(&SERVICE, interface) => {
            Ok(all(SERVICE.properties, &call.realm.facts(name)?))
        }
        Object::Manager if speaks_of(&MANAGER, interface) => {
            Ok(all(MANAGER.properties, &manager::facts(call)))
        }
        _ if of(object).iter().any(|known| known.name == interface) => Ok(Values::new()),
        _ => Err(unknown(interface)),
    }
}

/// Whether an interface is meant; no name means the one that has the properties.
fn speaks_of<T>(interface: &Interface<T>, name: &str) -> bool {
    name.is_empty() || name == interface.name
}

fn unknown(interface: &str) -> ControlError {
    let interface: String = interface.chars().take(64).collect();
    ControlError::UnknownInterface(format!("the object has no interface '{interface}'"))
}

fn all<T>(properties: &[Property<T>], facts: &T) -> Values {
    properties
        .iter()
        .map(|property| (property.name.to_owned(), (property.get)(facts)))
        .collect()
}
