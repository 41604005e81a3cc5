//! Cuts a stream of bytes into D-Bus messages, and refuses a message that is too long before any
//! memory is spent on it.
//!
//! zbus reads messages of up to 128 MiB, whoever sends them; PID 1 takes what its methods need.

use std::os::fd::OwnedFd;

use zbus::Message;
use zbus::connection::socket::ReadHalf;

/// What every message begins with: byte order, type, flags, version, length of the body, serial
/// number, length of the header's fields.
const FIXED: usize = 16;

/// Longest header fields: a path, an interface, a member, a destination, a signature, each of at
/// most 255 bytes but the path, which PID 1 has none of that are longer.
const MAX_FIELDS: usize = 2048;

/// Why a stream is given up.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// It is no D-Bus message.
    #[error("not a D-Bus message: {0}")]
    Malformed(String),
    /// It is longer than this client's messages may be.
    #[error("a message of {found} bytes, allowed: {allowed}")]
    Long {
        /// What its header says.
        found: usize,
        /// What is allowed.
        allowed: usize,
    },
}

/// The length of the message that `received` begins with, once that is known.
///
/// # Errors
/// When it is no message, or one longer than `allowed` bytes.
pub fn length(received: &[u8], allowed: usize) -> Result<Option<usize>, FrameError> {
    let Some(fixed) = received.first_chunk::<FIXED>() else {
        return Ok(None);
    };
    let number = |at: usize| {
        let mut bytes = [0; 4];
        for (byte, from) in bytes.iter_mut().zip(fixed.iter().skip(at)) {
            *byte = *from;
        }
        let number = match fixed[0] {
            b'l' => u32::from_le_bytes(bytes),
            _ => u32::from_be_bytes(bytes),
        };
        usize::try_from(number).unwrap_or(usize::MAX)
    };
    if !matches!(fixed[0], b'l' | b'B') {
        return Err(FrameError::Malformed(format!(
            "byte order {}, allowed: 108 (l), 66 (B)",
            fixed[0]
        )));
    }
    let (body, fields) = (number(4), number(12));
    if fields > MAX_FIELDS {
        return Err(FrameError::Long {
            found: fields,
            allowed: MAX_FIELDS,
        });
    }
    // The body begins at a multiple of eight.
    let found = (FIXED + fields.next_multiple_of(8)).saturating_add(body);
    if found > allowed {
        return Err(FrameError::Long { found, allowed });
    }
    Ok(Some(found))
}

/// Makes a message of its bytes, all of them and no more.
///
/// # Errors
/// When they are no message.
pub async fn message(mut bytes: Vec<u8>) -> Result<Message, FrameError> {
    // zbus makes messages of bytes where it reads them from a socket; this one has nothing more.
    Drained
        .receive_message(0, &mut bytes, &mut Vec::new())
        .await
        .map_err(|error| FrameError::Malformed(error.to_string()))
}

/// A socket that has given everything.
#[derive(Debug)]
struct Drained;

#[zbus::export::async_trait::async_trait]
impl ReadHalf for Drained {
    async fn recvmsg(&mut self, _buffer: &mut [u8]) -> std::io::Result<(usize, Vec<OwnedFd>)> {
        Ok((0, Vec::new()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call() -> Vec<u8> {
        Message::method_call("/org/kos/Init1", "Service")
            .interface("org.kos.Init1")
            .build(&"infer")
            .unwrap()
            .data()
            .to_vec()
    }

    #[tokio::test]
    async fn a_message_is_whole_or_it_is_none() {
        let bytes = call();
        assert_eq!(length(&bytes, 4096).unwrap(), Some(bytes.len()));
        assert_eq!(length(&bytes[..15], 4096).unwrap(), None);
        let parsed = message(bytes.clone()).await.unwrap();
        assert_eq!(parsed.header().member().unwrap().as_str(), "Service");
        assert_eq!(parsed.body().deserialize::<&str>().unwrap(), "infer");
        assert!(message(bytes[..bytes.len() - 1].to_vec()).await.is_err());
    }

    #[test]
    fn a_long_message_is_refused_at_its_first_bytes() {
        let mut bytes = call();
        bytes[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(
            length(&bytes[..16], 4096),
            Err(FrameError::Long { .. })
        ));
        let mut bytes = call();
        bytes[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(
            length(&bytes, usize::MAX),
            Err(FrameError::Long { .. })
        ));
        assert!(matches!(
            length(b"GET / HTTP/1.1\r\n", 4096),
            Err(FrameError::Malformed(_))
        ));
    }

    /// Flips and cuts a message at random; whatever comes of it, nothing panics.
    #[tokio::test]
    async fn damaged_messages_are_refused_quietly() {
        let good = call();
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        for _ in 0..20_000 {
            let mut bytes = good.clone();
            for _ in 0..3 {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                let at = usize::try_from(state >> 33).unwrap() % bytes.len();
                bytes[at] = state.to_le_bytes()[2];
            }
            if let Ok(Some(found)) = length(&bytes, 4096) {
                bytes.resize(found, 0);
                if let Ok(message) = message(bytes).await {
                    let _ = message.body().deserialize::<(&str, i32)>();
                    let _ = message.body().deserialize::<&str>();
                }
            }
        }
    }
}
