//! Reads the host ports that QEMU chose out of its monitor's `info usernet`.

/// One forwarded TCP port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PortPair {
    pub(crate) host: u16,
    pub(crate) guest: u16,
}

/// The TCP forwards in the text of `info usernet`.
///
/// The rows of interest look like this (QEMU 7.2 and 10; libslirp's `slirp_connection_info`):
///
/// ```text
///   Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ
///   TCP[HOST_FORWARD]  12       127.0.0.1 38211       10.0.2.15    80     0     0
/// ```
pub(crate) fn parse(text: &str) -> Vec<PortPair> {
    text.lines().filter_map(forward).collect()
}

fn forward(line: &str) -> Option<PortPair> {
    let mut fields = line.split_whitespace();
    if fields.next()? != "TCP[HOST_FORWARD]" {
        return None;
    }
    let _descriptor = fields.next()?;
    let _source = fields.next()?;
    let host = fields.next()?.parse().ok()?;
    let _destination = fields.next()?;
    let guest = fields.next()?.parse().ok()?;
    Some(PortPair { host, guest })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwards_are_found_among_connections() {
        let text = "Hub -1 (net0):\r\n\
            \x20 Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n\
            \x20 TCP[ESTABLISHED]   15       127.0.0.1 38211       10.0.2.15    80     0     0\r\n\
            \x20 TCP[HOST_FORWARD]  13       127.0.0.1 41001       10.0.2.15 11434     0     0\r\n\
            \x20 TCP[HOST_FORWARD]  12       127.0.0.1 38211       10.0.2.15    80     0     0\r\n\
            \x20 UDP[236 sec]       16       10.0.2.15 39201        10.0.2.3    53     0     0\r\n";
        assert_eq!(
            parse(text),
            [
                PortPair {
                    host: 41001,
                    guest: 11434
                },
                PortPair {
                    host: 38211,
                    guest: 80
                }
            ]
        );
    }

    #[test]
    fn nothing_is_found_in_nonsense() {
        assert_eq!(parse(""), []);
        assert_eq!(parse("TCP[HOST_FORWARD] 1 2"), []);
        assert_eq!(parse("TCP[HOST_FORWARD] 1 a 99999999 b 80 0 0"), []);
    }
}
