//! Host names become addresses by asking the network's name servers: a static program has no
//! resolver, and what the box's network service knows is the truth.
//!
//! One question by UDP to one server after the other, by TCP when the answer does not fit.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// Time for one answer; a resolver that has to look for itself takes a second or two.
const ANSWER_LIMIT: Duration = Duration::from_secs(4);
/// Each server is asked so often: UDP loses packets.
const QUESTIONS: usize = 2;
/// What a server may send without asking first (RFC 9715).
const MAX_PACKET: usize = 1232;
/// Most addresses of one name that are tried.
const MAX_ADDRESSES: usize = 8;

const DNS: u16 = 53;
const A: u16 = 1;
const CNAME: u16 = 5;
const AAAA: u16 = 28;
const INTERNET: u16 = 1;

/// Why a name has no address.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// Nobody to ask.
    #[error("the network has told no name server")]
    NoServer,
    /// Not a name.
    #[error("it is no host name")]
    Name,
    /// Every server was silent.
    #[error("no name server answered ({0})")]
    Silent(String),
    /// There is none.
    #[error("there is no host of that name")]
    Unknown,
}

#[derive(Deserialize)]
struct Network {
    #[serde(default)]
    dns: Vec<IpAddr>,
}

/// The name servers by the network service's state file.
pub fn servers(state: &Path) -> Vec<SocketAddr> {
    let text = std::fs::read_to_string(state).unwrap_or_default();
    let known: Option<Network> = serde_json::from_str(&text).ok();
    let addresses = known.map(|network| network.dns).unwrap_or_default();
    addresses
        .into_iter()
        .map(|address| SocketAddr::new(address, DNS))
        .collect()
}

/// The addresses of a host, which may be one itself.
pub async fn resolve(host: &str, servers: &[SocketAddr]) -> Result<Vec<IpAddr>, ResolveError> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = bare.parse() {
        return Ok(vec![address]);
    }
    if host == "localhost" {
        return Ok(vec![Ipv4Addr::LOCALHOST.into()]);
    }
    if servers.is_empty() {
        return Err(ResolveError::NoServer);
    }
    let mut addresses = Vec::new();
    let mut silent = None;
    // IPv4 first: a box without IPv6 would wait for nothing.
    for kind in [A, AAAA] {
        match ask_all(host, kind, servers).await {
            Ok(more) => addresses.extend(more),
            Err(error @ ResolveError::Silent(_)) => silent = Some(error),
            Err(ResolveError::Unknown) => {}
            Err(error) => return Err(error),
        }
    }
    addresses.truncate(MAX_ADDRESSES);
    match (addresses.is_empty(), silent) {
        (false, _) => Ok(addresses),
        (true, Some(error)) => Err(error),
        (true, None) => Err(ResolveError::Unknown),
    }
}

async fn ask_all(
    host: &str,
    kind: u16,
    servers: &[SocketAddr],
) -> Result<Vec<IpAddr>, ResolveError> {
    let mut last = String::new();
    for _ in 0..QUESTIONS {
        for &server in servers {
            match ask(host, kind, server).await? {
                Ok(answer) => return answer.ok_or(ResolveError::Unknown),
                Err(problem) => last = format!("{}: {problem}", server.ip()),
            }
        }
    }
    Err(ResolveError::Silent(last))
}

/// The addresses; None when the server knows that there is no such name; or why it was no help.
async fn ask(
    host: &str,
    kind: u16,
    server: SocketAddr,
) -> Result<Result<Option<Vec<IpAddr>>, String>, ResolveError> {
    let mut number = [0; 2];
    // Without randomness the port alone guards against forged answers.
    let _ = getrandom::fill(&mut number);
    let number = u16::from_be_bytes(number);
    let question = question(host, kind, number)?;
    let mut answer = match timeout(ANSWER_LIMIT, by_udp(&question, server)).await {
        Ok(Ok(answer)) => read(&answer, &question, kind),
        Ok(Err(error)) => return Ok(Err(error.to_string())),
        Err(_) => return Ok(Err("no answer".to_owned())),
    };
    if matches!(answer, Answer::Cut) {
        answer = match timeout(ANSWER_LIMIT, by_tcp(&question, server)).await {
            Ok(Ok(answer)) => read(&answer, &question, kind),
            Ok(Err(error)) => return Ok(Err(error.to_string())),
            Err(_) => return Ok(Err("no answer".to_owned())),
        };
    }
    Ok(match answer {
        Answer::Addresses(addresses) => Ok(Some(addresses)),
        Answer::Unknown => Ok(None),
        Answer::Cut => Err("its answer is cut off".to_owned()),
        Answer::Wrong(problem) => Err(problem.to_owned()),
    })
}

async fn by_udp(question: &[u8], server: SocketAddr) -> std::io::Result<Vec<u8>> {
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    // From now on the kernel lets through only what comes from there.
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut packet = vec![0; MAX_PACKET];
    loop {
        let length = socket.recv(&mut packet).await?;
        // An answer to another question, perhaps a forged one, is not waited for any less.
        if packet[..length].get(..2) == question.get(..2) {
            packet.truncate(length);
            return Ok(packet);
        }
    }
}

async fn by_tcp(question: &[u8], server: SocketAddr) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(question.len()).map_err(std::io::Error::other)?;
    stream.write_all(&length.to_be_bytes()).await?;
    stream.write_all(question).await?;
    let mut answer = vec![0; stream.read_u16().await?.into()];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

/// One question as a packet (RFC 1035, 4.1).
fn question(host: &str, kind: u16, number: u16) -> Result<Vec<u8>, ResolveError> {
    // Recursion desired; one question.
    let mut packet = number.to_be_bytes().to_vec();
    packet.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.is_empty() || host.len() > 253 {
        return Err(ResolveError::Name);
    }
    for label in host.split('.') {
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        match u8::try_from(label.len()) {
            Ok(length @ 1..=63) if label.bytes().all(letter) => packet.push(length),
            _ => return Err(ResolveError::Name),
        }
        packet.extend(label.bytes());
    }
    packet.push(0);
    packet.extend(kind.to_be_bytes());
    packet.extend(INTERNET.to_be_bytes());
    Ok(packet)
}

#[derive(Debug, PartialEq)]
enum Answer {
    Addresses(Vec<IpAddr>),
    /// The name has none of that kind, or there is no such name.
    Unknown,
    /// It did not fit.
    Cut,
    Wrong(&'static str),
}

/// Reads an answer. The server has followed aliases: its records are in the order of the way.
fn read(packet: &[u8], question: &[u8], kind: u16) -> Answer {
    let wrong = Answer::Wrong("its answer is damaged");
    let Some(header) = packet.get(..12) else {
        return wrong;
    };
    let word = |place: usize| u16::from_be_bytes([header[place], header[place + 1]]);
    let is_answer = header[2] & 0x80 != 0;
    // Servers keep the letters of the question, or do not.
    let same = packet
        .get(12..question.len())
        .is_some_and(|asked| asked.eq_ignore_ascii_case(&question[12..]));
    if header[..2] != question[..2] || !is_answer || word(4) != 1 || !same {
        return wrong;
    }
    if header[2] & 2 != 0 {
        return Answer::Cut;
    }
    match header[3] & 15 {
        0 => {}
        3 => return Answer::Unknown,
        _ => return Answer::Wrong("it failed to answer"),
    }
    let mut place = question.len();
    let mut addresses = Vec::new();
    for _ in 0..word(6) {
        let Some(record) = skip_name(packet, place).and_then(|place| Record::read(packet, place))
        else {
            return wrong;
        };
        match record.data {
            &[a, b, c, d] if record.kind == A && kind == A => {
                addresses.push(Ipv4Addr::new(a, b, c, d).into());
            }
            data if record.kind == AAAA && kind == AAAA => {
                let Ok(bytes) = <[u8; 16]>::try_from(data) else {
                    return wrong;
                };
                addresses.push(Ipv6Addr::from(bytes).into());
            }
            _ if record.kind == CNAME => {}
            _ => {}
        }
        place = record.end;
    }
    match addresses.is_empty() {
        true => Answer::Unknown,
        false => Answer::Addresses(addresses),
    }
}

struct Record<'a> {
    kind: u16,
    data: &'a [u8],
    end: usize,
}

impl<'a> Record<'a> {
    fn read(packet: &'a [u8], place: usize) -> Option<Self> {
        let fixed = packet.get(place..place + 10)?;
        let length: usize = u16::from_be_bytes([fixed[8], fixed[9]]).into();
        let end = place + 10 + length;
        Some(Self {
            kind: u16::from_be_bytes([fixed[0], fixed[1]]),
            data: packet.get(place + 10..end)?,
            end,
        })
    }
}

/// Where a name ends: its labels, or a reference to others in two bytes.
fn skip_name(packet: &[u8], mut place: usize) -> Option<usize> {
    loop {
        match *packet.get(place)? {
            0 => return Some(place + 1),
            length if length & 0xC0 == 0xC0 => return Some(place + 2),
            length if length & 0xC0 == 0 => place += 1 + usize::from(length),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server's packet: the question's header and name, then records.
    fn answer(question: &[u8], flags: [u8; 2], records: &[(u16, &[u8])]) -> Vec<u8> {
        let mut packet = question.to_vec();
        packet[2..4].copy_from_slice(&flags);
        packet[7] = records.len() as u8;
        for (kind, data) in records {
            // The name by a reference to the question's.
            packet.extend([0xC0, 12]);
            packet.extend(kind.to_be_bytes());
            packet.extend([0, 1, 0, 0, 0, 60]);
            packet.extend((data.len() as u16).to_be_bytes());
            packet.extend(*data);
        }
        packet
    }

    #[test]
    fn answers_are_read_and_damaged_ones_told() {
        let asked = question("registry.example", A, 7).unwrap();
        let alias: &[u8] = &[1, b'x', 0];
        let packet = answer(&asked, [0x81, 0x80], &[(CNAME, alias), (A, &[10, 0, 2, 2])]);
        let found = vec![IpAddr::from([10, 0, 2, 2])];
        assert_eq!(read(&packet, &asked, A), Answer::Addresses(found));
        // Cut at any byte it is damaged, and never more than that.
        for length in 0..packet.len() {
            let cut = read(&packet[..length], &asked, A);
            assert!(matches!(cut, Answer::Wrong(_)), "{length}: {cut:?}");
        }
        assert_eq!(
            read(&answer(&asked, [0x81, 0x83], &[]), &asked, A),
            Answer::Unknown
        );
        assert_eq!(
            read(&answer(&asked, [0x81, 0x80], &[]), &asked, A),
            Answer::Unknown
        );
        assert_eq!(
            read(&answer(&asked, [0x83, 0x80], &[]), &asked, A),
            Answer::Cut
        );
        let failed = read(&answer(&asked, [0x81, 0x82], &[]), &asked, A);
        assert!(matches!(failed, Answer::Wrong(_)));
        let other = question("registry.example", A, 8).unwrap();
        assert!(matches!(read(&packet, &other, A), Answer::Wrong(_)));
    }

    #[test]
    fn what_is_no_name_is_not_asked_for() {
        for name in [
            "",
            ".",
            "a..b",
            "a b",
            "ä",
            &"a".repeat(64),
            &"a.".repeat(200),
        ] {
            assert!(question(name, A, 1).is_err(), "{name:?}");
        }
    }

    #[tokio::test]
    async fn a_server_is_asked_by_udp_and_then_by_tcp() {
        let tcp = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        let udp = UdpSocket::bind(address).await.unwrap();
        let serving = tokio::spawn(async move {
            let mut packet = vec![0; 512];
            // The first kind does not fit, the second is not there.
            let (length, from) = udp.recv_from(&mut packet).await.unwrap();
            let asked = packet[..length].to_vec();
            udp.send_to(&answer(&asked, [0x83, 0x80], &[]), from)
                .await
                .unwrap();
            let (mut stream, _) = tcp.accept().await.unwrap();
            let mut whole = vec![0; stream.read_u16().await.unwrap().into()];
            stream.read_exact(&mut whole).await.unwrap();
            assert_eq!(whole, asked);
            let full = answer(&asked, [0x81, 0x80], &[(A, &[127, 0, 0, 9])]);
            stream.write_u16(full.len() as u16).await.unwrap();
            stream.write_all(&full).await.unwrap();
            let (length, from) = udp.recv_from(&mut packet).await.unwrap();
            let none = answer(&packet[..length], [0x81, 0x80], &[]);
            udp.send_to(&none, from).await.unwrap();
        });
        let found = resolve("registry.example", &[address]).await.unwrap();
        assert_eq!(found, [IpAddr::from([127, 0, 0, 9])]);
        serving.await.unwrap();
        let literal = resolve("[::1]", &[]).await.unwrap();
        assert_eq!(literal, [IpAddr::V6(Ipv6Addr::LOCALHOST)]);
        assert!(matches!(
            resolve("a", &[]).await,
            Err(ResolveError::NoServer)
        ));
    }
}
