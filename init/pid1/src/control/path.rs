//! D-Bus object paths of PID 1: the manager's, and one for each service by its escaped name.

use kos_manifest::control::OBJECT_PATH;

/// The path that the services' paths begin with, without the last `/`.
pub const SERVICES: &str = "/org/kos/Init1/service";

/// What a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    /// Nothing of its own: a step on the way to what is named here, below it.
    Branch(&'static [&'static str]),
    /// What a client calls that believes it speaks to a bus.
    Bus,
    /// The manager.
    Manager,
    /// The parent of the services' objects.
    Services,
    /// A service's object, by the service's name, whether there is one or not.
    Service(String),
}

impl Object {
    /// What is at a path; `None` when nothing ever is.
    pub fn at(path: &str) -> Option<Self> {
        match path {
            "/" => Some(Object::Branch(&["org"])),
            "/org" => Some(Object::Branch(&["freedesktop", "kos"])),
            "/org/freedesktop" => Some(Object::Branch(&["DBus"])),
            "/org/freedesktop/DBus" => Some(Object::Bus),
            "/org/kos" => Some(Object::Branch(&["Init1"])),
            OBJECT_PATH => Some(Object::Manager),
            SERVICES => Some(Object::Services),
            _ => {
                let escaped = path.strip_prefix(SERVICES)?.strip_prefix('/')?;
                Some(Object::Service(unescape(escaped)?))
            }
        }
    }
}

/// The path of a service's object.
pub fn of_service(name: &str) -> String {
    format!("{SERVICES}/{}", escape(name))
}

/// A name as an element of a path: what is not a letter or a digit becomes `_` and two hexadecimal
/// digits, as systemd does it (`sd_bus_path_encode`).
pub fn escape(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for (index, byte) in name.bytes().enumerate() {
        // A digit at the beginning is escaped too, as systemd does.
        if byte.is_ascii_alphabetic() || (byte.is_ascii_digit() && index > 0) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("_{byte:02x}"));
        }
    }
    escaped
}

/// The name that an element stands for; `None` when [`escape`] makes no such element.
fn unescape(element: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(element.len());
    let mut rest = element.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'_' {
            let digits = [rest.next()?, rest.next()?];
            let digits = std::str::from_utf8(&digits).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    let name = String::from_utf8(bytes).ok()?;
    // One object has one path.
    (!name.is_empty() && escape(&name) == element).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_there_and_back() {
        for (name, escaped) in [
            ("infer", "infer"),
            ("camera@garage", "camera_40garage"),
            ("my-agent-2", "my_2dagent_2d2"),
            ("2nd", "_32nd"),
        ] {
            assert_eq!(escape(name), escaped);
            assert_eq!(
                Object::at(&of_service(name)),
                Some(Object::Service(name.to_owned()))
            );
            zbus::ObjectPath::try_from(of_service(name)).unwrap();
        }
    }

    #[test]
    fn there_is_one_path_for_each_object() {
        for path in [
            "/org/kos/Init1/service/",
            "/org/kos/Init1/service/_69nfer",
            "/org/kos/Init1/service/a_2D",
            "/org/kos/Init1/service/a_2",
            "/org/kos/Init1/service/a/b",
            "/org/kos/Init1/servicex",
            "/org/kos/Init2",
            "/com",
        ] {
            assert_eq!(Object::at(path), None, "{path}");
        }
        assert_eq!(Object::at("/org/kos"), Some(Object::Branch(&["Init1"])));
    }
}
