//! How an interface is written down: tables from which calls are found, properties are read and
//! introspection is made, so that the three cannot disagree.

use kos_manifest::service::ControlGrant;
use zbus::Variant;

/// An argument of a method or a signal.
pub struct Argument {
    /// Its name.
    pub name: &'static str,
    /// Its D-Bus signature.
    pub signature: fn() -> String,
}

/// A method.
pub struct Method {
    /// Its name.
    pub name: &'static str,
    /// What it is called with.
    pub takes: &'static [Argument],
    /// What it answers with.
    pub gives: &'static [Argument],
    /// What the caller's manifest must grant.
    pub grant: ControlGrant,
    /// Whether its answer may have to wait for something.
    pub waits: bool,
}

/// A signal.
pub struct Signal {
    /// Its name.
    pub name: &'static str,
    /// What it carries.
    pub carries: &'static [Argument],
}

/// How `PropertiesChanged` tells that a property has another value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Emits {
    /// With the value.
    True,
    /// By its name alone: it is to be asked for again.
    Invalidates,
    /// It never has another value.
    Const,
    /// Not at all: it changes all the time.
    False,
}

impl Emits {
    /// As introspection says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Emits::True => "true",
            Emits::Invalidates => "invalidates",
            Emits::Const => "const",
            Emits::False => "false",
        }
    }
}

/// A property, which is read from the facts `T`. None can be set.
pub struct Property<T> {
    /// Its name.
    pub name: &'static str,
    /// Its D-Bus signature.
    pub signature: fn() -> String,
    /// How its changes are told.
    pub emits: Emits,
    /// Its value.
    pub get: fn(&T) -> Variant<'static>,
}

/// An interface whose properties are read from the facts `T`.
pub struct Interface<T: 'static> {
    /// Its name.
    pub name: &'static str,
    /// Its methods.
    pub methods: &'static [Method],
    /// Its properties.
    pub properties: &'static [Property<T>],
    /// Its signals.
    pub signals: &'static [Signal],
}

impl<T> Interface<T> {
    /// A method by its name.
    pub fn method(&self, name: &str) -> Option<&'static Method> {
        self.methods.iter().find(|method| method.name == name)
    }

    /// A property by its name.
    pub fn property(&self, name: &str) -> Option<&'static Property<T>> {
        self.properties
            .iter()
            .find(|property| property.name == name)
    }

    /// Its part of an introspection document.
    pub fn describe(&self, xml: &mut String) {
        *xml += &format!(" <interface name=\"{}\">\n", self.name);
        for method in self.methods {
            *xml += &format!("  <method name=\"{}\">\n", method.name);
            describe_arguments(xml, method.takes, " direction=\"in\"");
            describe_arguments(xml, method.gives, " direction=\"out\"");
            *xml += "  </method>\n";
        }
        for signal in self.signals {
            *xml += &format!("  <signal name=\"{}\">\n", signal.name);
            describe_arguments(xml, signal.carries, "");
            *xml += "  </signal>\n";
        }
        for property in self.properties {
            *xml += &format!(
                "  <property name=\"{}\" type=\"{}\" access=\"read\">\n   <annotation name=\"org.freedesktop.DBus.Property.EmitsChangedSignal\" value=\"{}\"/>\n  </property>\n",
                property.name,
                (property.signature)(),
                property.emits.as_str()
            );
        }
        *xml += " </interface>\n";
    }
}

fn describe_arguments(xml: &mut String, arguments: &[Argument], direction: &str) {
    for argument in arguments {
        *xml += &format!(
            "   <arg name=\"{}\" type=\"{}\"{direction}/>\n",
            argument.name,
            (argument.signature)()
        );
    }
}

/// The D-Bus signature of a Rust type, as a function that a table can hold.
pub fn signature<T: zbus::Type>() -> String {
    T::SIGNATURE.to_string()
}

/// `arguments![name: Type, …]`: what a method takes or gives, or a signal carries.
macro_rules! arguments {
    ($($name:ident: $type:ty),* $(,)?) => {
        &[$($crate::control::interface::Argument {
            name: stringify!($name),
            signature: $crate::control::interface::signature::<$type>,
        }),*]
    };
}
pub(super) use arguments;

/// `property!("Name", Emits, Type, |facts| value)`.
macro_rules! property {
    ($name:literal, $emits:ident, $type:ty, |$facts:ident| $value:expr) => {
        $crate::control::interface::Property {
            name: $name,
            signature: $crate::control::interface::signature::<$type>,
            emits: $crate::control::interface::Emits::$emits,
            get: |$facts| {
                let value: $type = $value;
                zbus::Variant::from(value)
            },
        }
    };
}
pub(super) use property;
