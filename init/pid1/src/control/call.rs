//! One call of a method: where it goes, whether the caller may make it, and its answer.

use std::sync::Arc;

use kos_manifest::service::ControlGrant;
use zbus::message::Body;
use zbus::wire::DynamicDeserialize;
use zbus::{Message, OwnedObjectPath};

use crate::control::error::ControlError;
use crate::control::interface::Method;
use crate::control::manager::{self, MANAGER};
use crate::control::path::{self, Object};
use crate::control::realm::Realm;
use crate::control::service::{self, SERVICE};
use crate::control::standard;

/// A call, and what it is answered from.
pub struct Call<R> {
    /// What is spoken for.
    pub realm: Arc<R>,
    /// The call itself.
    pub message: Message,
    /// Who calls.
    pub uid: u32,
    /// What the caller may do.
    pub grant: ControlGrant,
    /// Whether the caller's connection is told signals.
    pub subscribed: bool,
}

/// Where a call goes.
#[derive(Clone)]
pub struct Route {
    object: Object,
    family: Family,
    /// The method that is called.
    pub method: &'static Method,
}

/// See [`Route::then`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Nothing.
    Nothing,
    /// Signals come from now on.
    Listen,
    /// No more of them.
    BeSilent,
    /// Signals come, and the client is told that it is a monitor.
    Monitor,
}

/// Which kind of interface a method belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Manager,
    Service,
    Standard,
}

impl Route {
    /// What the connection has to do when the call has been answered.
    pub fn then(&self) -> Then {
        match self.method.name {
            "Subscribe" | "AddMatch" => Then::Listen,
            "Unsubscribe" => Then::BeSilent,
            "BecomeMonitor" => Then::Monitor,
            _ => Then::Nothing,
        }
    }

    /// What the call costs, in the units of [`super::account::Account`], among so many services.
    pub fn cost(&self, services: usize) -> f64 {
        #[allow(clippy::cast_precision_loss)] // a thousand services or so
        let services = services as f64;
        match (self.family, self.method.name) {
            (Family::Standard, "GetManagedObjects") => 1.0 + services / 2.0,
            (Family::Manager, "Services") => 1.0 + services / 8.0,
            (Family::Standard, "Introspect") => 1.0 + services / 64.0,
            // The whole set is read and validated.
            (Family::Manager, "Reload" | "SetManifest" | "RemoveManifest") => 50.0,
            // They read the kernel's files.
            (Family::Manager, "System") | (Family::Standard, "Get" | "GetAll") => 3.0,
            _ => 1.0,
        }
    }
}

impl<R: Realm> Call<R> {
    /// Where the call goes.
    ///
    /// # Errors
    /// When there is no such object, interface or method, or the caller may not call it.
    pub fn route(&self) -> Result<Route, ControlError> {
        let header = self.message.header();
        let path = header.path().map_or("", |path| path.as_str());
        let member = header.member().map_or("", |member| member.as_str());
        let interface = header.interface().map(|interface| interface.as_str());
        let object = Object::at(path).filter(|object| match object {
            Object::Service(name) => self.realm.status(name).is_ok(),
            _ => true,
        });
        let Some(object) = object else {
            let path: String = path.chars().take(128).collect();
            return Err(ControlError::UnknownObject(format!(
                "there is no object {path}"
            )));
        };
        let (family, method) = find(&object, interface, member)?;
        if self.grant < method.grant {
            return Err(ControlError::NotAllowed(format!(
                "the caller's manifest says sandbox.control = {:?}, needed: {:?}",
                self.grant, method.grant
            )));
        }
        Ok(Route {
            object,
            family,
            method,
        })
    }

    /// Does what is asked.
    ///
    /// # Errors
    /// When the arguments are wrong, or it cannot be done.
    pub async fn answer(&self, route: &Route) -> Result<Message, ControlError> {
        let method = route.method.name;
        match (&route.object, route.family) {
            (Object::Service(name), Family::Service) => service::answer(self, name, method).await,
            (_, Family::Manager) => manager::answer(self, method).await,
            (object, _) => standard::answer(self, object, method).await,
        }
    }
}

/// Finds a method. D-Bus lets a caller leave the interface out.
fn find(
    object: &Object,
    interface: Option<&str>,
    member: &str,
) -> Result<(Family, &'static Method), ControlError> {
    let meant = |name: &str| interface.is_none_or(|interface| interface == name);
    let mut known = false;
    if *object == Object::Manager && meant(MANAGER.name) {
        known = true;
        if let Some(method) = MANAGER.method(member) {
            return Ok((Family::Manager, method));
        }
    }
    if matches!(object, Object::Service(_)) && meant(SERVICE.name) {
        known = true;
        if let Some(method) = SERVICE.method(member) {
            return Ok((Family::Service, method));
        }
    }
    for standard in standard::of(object) {
        if meant(standard.name) {
            known = true;
            if let Some(method) = standard.method(member) {
                return Ok((Family::Standard, method));
            }
        }
    }
    if known {
        return Err(ControlError::UnknownMethod(format!(
            "there is no method '{member}'"
        )));
    }
    Err(ControlError::UnknownInterface(format!(
        "the object has no interface '{}'",
        interface.unwrap_or_default()
    )))
}

/// The arguments of a call.
///
/// # Errors
/// When they are of other types.
pub fn arguments_of<'b, T: DynamicDeserialize<'b>>(body: &'b Body) -> Result<T, ControlError> {
    Ok(body.deserialize()?)
}

/// The answer to a call that was done, with one value in it: a structure is one value, too.
///
/// # Errors
/// When it cannot be written down.
pub fn give<B>(call: &Message, value: &B) -> Result<Message, ControlError>
where
    B: serde::Serialize + zbus::Type,
{
    Message::method_return(&call.header())
        .build(&(value,))
        .map_err(|error| ControlError::Failed(error.to_string()))
}

/// The answer to a call that was done, and has nothing to say.
///
/// # Errors
/// When it cannot be written down.
pub fn done(call: &Message) -> Result<Message, ControlError> {
    Message::method_return(&call.header())
        .build(&())
        .map_err(|error| ControlError::Failed(error.to_string()))
}

/// The answer to a call that was not done; `None` when not even that can be written down.
pub fn refuse(call: &Message, error: &ControlError) -> Option<Message> {
    Message::error(&call.header(), error.name())
        .build(&error.to_string())
        .ok()
}

/// A service's path, as a value.
///
/// # Errors
/// Never for a name that a manifest may have.
pub fn path_of(name: &str) -> Result<OwnedObjectPath, ControlError> {
    OwnedObjectPath::try_from(path::of_service(name))
        .map_err(|error| ControlError::Failed(error.to_string()))
}
