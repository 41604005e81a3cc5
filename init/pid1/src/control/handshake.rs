//! How a client introduces itself: D-Bus's SASL lines, from the server's side, without any I/O.
//!
//! Only `EXTERNAL` is offered, and it decides nothing: who the client is, the kernel has said
//! already. A client that claims to be somebody else is turned away, as the D-Bus specification
//! has it. Descriptors are never passed.

/// Longest line of a client; the longest sensible one is `AUTH EXTERNAL` with a user id in
/// hexadecimal letters.
const MAX_LINE: usize = 256;

/// Most lines before `BEGIN`. An honest client needs three.
const MAX_LINES: usize = 16;

/// Where the conversation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// The zero byte that every client sends first.
    Zero,
    /// `AUTH`.
    Auth,
    /// `DATA`, as `AUTH EXTERNAL` came without an identity.
    Data,
    /// `BEGIN`.
    Begin,
    /// Messages follow.
    Done,
}

/// Why a client is turned away.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// It does not speak D-Bus.
    #[error("the first byte is {0}, allowed: 0")]
    FirstByte(u8),
    /// A line does not end.
    #[error("a line of more than {MAX_LINE} bytes")]
    LongLine,
    /// It never comes to `BEGIN`.
    #[error("more than {MAX_LINES} lines before BEGIN")]
    ManyLines,
}

/// A conversation that has not come to its first message.
#[derive(Debug)]
pub struct Handshake {
    uid: u32,
    guid: String,
    step: Step,
    lines: usize,
}

impl Handshake {
    /// With a client of this uid; `guid` names this server, 32 hexadecimal digits.
    pub fn new(uid: u32, guid: String) -> Self {
        Handshake {
            uid,
            guid,
            step: Step::Zero,
            lines: 0,
        }
    }

    /// Takes what has come, and puts what is to be said into `answer`. Takes whole lines from
    /// `received`, nothing behind `BEGIN`, and says whether that has come.
    ///
    /// # Errors
    /// When the client is to be turned away.
    pub fn take(
        &mut self,
        received: &mut Vec<u8>,
        answer: &mut Vec<u8>,
    ) -> Result<bool, HandshakeError> {
        if self.step == Step::Zero {
            match received.first() {
                None => return Ok(false),
                Some(0) => received.remove(0),
                Some(other) => return Err(HandshakeError::FirstByte(*other)),
            };
            self.step = Step::Auth;
        }
        while self.step != Step::Done {
            let end = received.windows(2).position(|pair| pair == b"\r\n");
            let Some(end) = end.filter(|end| *end <= MAX_LINE) else {
                return if received.len() > MAX_LINE {
                    Err(HandshakeError::LongLine)
                } else {
                    Ok(false)
                };
            };
            self.lines += 1;
            if self.lines > MAX_LINES {
                return Err(HandshakeError::ManyLines);
            }
            let line: Vec<u8> = received.drain(..end + 2).take(end).collect();
            // A line that is not text is no command, and is answered like one that is unknown.
            let answered = self.line(std::str::from_utf8(&line).unwrap_or_default());
            answer.extend_from_slice(answered.as_bytes());
        }
        Ok(true)
    }

    fn line(&mut self, line: &str) -> String {
        let mut words = line.split_ascii_whitespace();
        match (self.step, words.next(), words.next(), words.next()) {
            (Step::Auth, Some("AUTH"), Some("EXTERNAL"), None) => {
                self.step = Step::Data;
                "DATA\r\n".to_owned()
            }
            (Step::Auth, Some("AUTH"), Some("EXTERNAL"), Some(identity)) => self.claim(identity),
            // No identity: the one that the kernel knows.
            (Step::Data, Some("DATA"), None, None) => self.accept(),
            (Step::Data, Some("DATA"), Some(identity), None) => self.claim(identity),
            (Step::Auth, Some("AUTH"), _, _)
            | (Step::Data | Step::Begin, Some("CANCEL" | "ERROR"), _, _) => self.reject(),
            (Step::Begin, Some("BEGIN"), None, None) => {
                self.step = Step::Done;
                String::new()
            }
            (Step::Begin, Some("NEGOTIATE_UNIX_FD"), None, None) => {
                "ERROR descriptors are not passed here\r\n".to_owned()
            }
            _ => "ERROR not a command, or not now\r\n".to_owned(),
        }
    }

    fn claim(&mut self, identity: &str) -> String {
        if text_of_hex(identity).as_deref() == Some(self.uid.to_string().as_bytes()) {
            self.accept()
        } else {
            self.reject()
        }
    }

    fn accept(&mut self) -> String {
        self.step = Step::Begin;
        format!("OK {}\r\n", self.guid)
    }

    fn reject(&mut self) -> String {
        self.step = Step::Auth;
        "REJECTED EXTERNAL\r\n".to_owned()
    }
}

fn text_of_hex(hex: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = hex
        .chars()
        .map(|digit| {
            digit
                .to_digit(16)
                .and_then(|digit| u8::try_from(digit).ok())
        })
        .collect::<Option<_>>()?;
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    Some(
        digits
            .chunks_exact(2)
            .map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn talk(bytes: &[u8]) -> (Result<bool, HandshakeError>, String, Vec<u8>) {
        let mut handshake = Handshake::new(1001, "0123".to_owned());
        let (mut received, mut answer) = (bytes.to_vec(), Vec::new());
        let taken = handshake.take(&mut received, &mut answer);
        (taken, String::from_utf8(answer).unwrap(), received)
    }

    #[test]
    fn clients_of_all_kinds_come_in() {
        // zbus: everything in one write, the identity with it, a message behind it.
        let (done, answer, rest) =
            talk(b"\0AUTH EXTERNAL 31303031\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\nl\x01");
        assert_eq!(done, Ok(true));
        assert_eq!(
            answer,
            "OK 0123\r\nERROR descriptors are not passed here\r\n"
        );
        assert_eq!(rest, b"l\x01");
        // systemd: the identity is the kernel's.
        let (done, answer, _) = talk(b"\0AUTH EXTERNAL\r\nDATA\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\n");
        assert_eq!(done, Ok(true));
        assert!(answer.starts_with("DATA\r\nOK 0123\r\nERROR "), "{answer}");
        // libdbus asks first what there is.
        let (done, answer, _) = talk(b"\0AUTH\r\nAUTH EXTERNAL 31303031\r\nBEGIN\r\n");
        assert_eq!(done, Ok(true));
        assert_eq!(answer, "REJECTED EXTERNAL\r\nOK 0123\r\n");
    }

    #[test]
    fn who_claims_to_be_root_stays_outside() {
        let (done, answer, _) = talk(b"\0AUTH EXTERNAL 30\r\nBEGIN\r\n");
        assert_eq!(done, Ok(false));
        assert_eq!(
            answer,
            "REJECTED EXTERNAL\r\nERROR not a command, or not now\r\n"
        );
        for wrong in ["3", "zz", "", "3130303", "313030310a"] {
            let line = format!("\0AUTH EXTERNAL\r\nDATA {wrong}x\r\nBEGIN\r\n");
            assert_eq!(talk(line.as_bytes()).0, Ok(false), "{wrong}");
        }
    }

    #[test]
    fn a_stream_of_anything_ends() {
        assert_eq!(talk(b"GET / HTTP").0, Err(HandshakeError::FirstByte(b'G')));
        let endless = [b"\0".as_slice(), &[b'A'; 300]].concat();
        assert_eq!(talk(&endless).0, Err(HandshakeError::LongLine));
        let chatter = [b"\0".as_slice(), &b"AUTH\r\n".repeat(20)].concat();
        assert_eq!(talk(&chatter).0, Err(HandshakeError::ManyLines));
        let (done, answer, _) = talk(b"\0\xff\xfe\r\n");
        assert_eq!(
            (done, answer.as_str()),
            (Ok(false), "ERROR not a command, or not now\r\n")
        );
    }

    #[test]
    fn bytes_may_come_one_by_one() {
        let mut handshake = Handshake::new(0, "0123".to_owned());
        let (mut received, mut answer, mut done) = (Vec::new(), Vec::new(), false);
        for byte in b"\0AUTH EXTERNAL 30\r\nBEGIN\r\n" {
            received.push(*byte);
            done = handshake.take(&mut received, &mut answer).unwrap();
        }
        assert!(done && received.is_empty());
    }
}
