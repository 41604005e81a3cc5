//! The whole interface, spoken to by a client over a socket pair, with a realm that only remembers
//! what it was asked.

mod busctl;
mod floods;
mod grants;
mod objects;
mod realm;
mod signals;

use std::os::unix::net::UnixStream as StdStream;
use std::sync::Arc;
use std::time::Instant;

use tokio::net::UnixStream;
use zbus::Connection as Client;

use crate::control::account::Accounts;
use crate::control::connection::Connection;
use crate::control::tests::realm::TestRealm;

/// A server, and who has come to it.
struct Server {
    realm: Arc<TestRealm>,
    accounts: Accounts,
}

impl Server {
    fn new() -> Self {
        Server {
            realm: Arc::new(TestRealm::new()),
            accounts: Accounts::default(),
        }
    }

    /// The client's end of a connection of `uid` that has not introduced itself.
    fn knock(&self, uid: u32) -> UnixStream {
        let (ours, theirs) = StdStream::pair().unwrap();
        for end in [&ours, &theirs] {
            end.set_nonblocking(true).unwrap();
        }
        let place = self.accounts.admit(uid, 0.0, Instant::now()).unwrap();
        let stream = UnixStream::from_std(ours).unwrap();
        let connection = Connection::new(stream, self.realm.clone(), place);
        tokio::spawn(connection.run("0123456789abcdef0123456789abcdef".to_owned()));
        UnixStream::from_std(theirs).unwrap()
    }

    /// A client of `uid`.
    async fn client(&self, uid: u32) -> Client {
        let stream = self.knock(uid).into_std().unwrap();
        zbus::connection::Builder::unix_stream(stream)
            .p2p()
            .user_id(uid)
            .build()
            .await
            .unwrap()
    }
}

/// Calls, and gives the answer or the error's name and words.
async fn call<A, T>(
    client: &Client,
    path: &str,
    interface: &str,
    method: &str,
    arguments: &A,
) -> Result<T, (String, String)>
where
    A: serde::Serialize + zbus::wire::DynamicType,
    T: for<'d> zbus::wire::DynamicDeserialize<'d>,
{
    match client
        .call_method(None::<&str>, path, Some(interface), method, arguments)
        .await
    {
        Ok(answer) => Ok(answer.body().deserialize().unwrap()),
        Err(zbus::Error::MethodError(name, words, _)) => {
            Err((name.to_string(), words.unwrap_or_default()))
        }
        Err(zbus::Error::FDO(error)) => {
            let name = zbus::DBusError::name(&*error).to_string();
            let words = zbus::DBusError::description(&*error).unwrap_or_default();
            Err((name, words.to_owned()))
        }
        Err(error) => panic!("{method}: {error}"),
    }
}
