//! The clock: one SNTP question now and then, and one step when the clock is off.
//!
//! Never slews: an appliance that has booted with 1970 needs the time at once, and a drift of
//! some milliseconds hurts nothing that it does. Asks only the servers that it is told: no
//! connection leaves the box that nobody asked for.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rsntp::{AsyncSntpClient, Config};
use rustix::time::{ClockId, Timespec, clock_settime};
use serde::Serialize;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

/// NTP's port.
const PORT: u16 = 123;
/// The clock is set when it is off by more: less is drift and jitter, and a jump is not free.
const TOLERANCE_SECONDS: f64 = 0.5;
/// 1,024 s: what NTP clients of good manners settle on.
const INTERVAL: Duration = Duration::from_secs(1024);
/// First wait after no server answered, doubled up to [`INTERVAL`].
const RETRY_FIRST: Duration = Duration::from_secs(8);
/// A server answers at once or not at all.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// UDP loses packets; a second question tells loss from silence.
const QUESTIONS: u32 = 2;
/// No true time is before the source code was written (2026-11-01); a build that knows its own
/// date (`SOURCE_DATE_EPOCH`, in seconds) is stricter.
const EARLIEST: u64 = earliest(option_env!("SOURCE_DATE_EPOCH"));

const fn earliest(build: Option<&str>) -> u64 {
    let written = 1_793_491_200;
    match build {
        Some(text) => match u64::from_str_radix(text, 10) {
            Ok(seconds) if seconds > written => seconds,
            _ => written,
        },
        None => written,
    }
}

/// Who named a time server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The owner of the box.
    Configured,
    /// The DHCP server.
    Dhcp,
    /// Nobody: the router is asked once, many of them know the time.
    Gateway,
}

/// Someone to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeServer {
    /// Where it listens.
    pub address: SocketAddr,
    /// Who named it.
    pub source: Source,
}

impl TimeServer {
    /// A server on NTP's port.
    pub fn new(address: IpAddr, source: Source) -> Self {
        TimeServer {
            address: SocketAddr::new(address, PORT),
            source,
        }
    }

    /// A server that the owner wrote: an IP address, with a port if it must be. Names are not
    /// resolved: the clock must not wait for a DNS that may need the clock.
    pub fn parse(text: &str) -> Option<Self> {
        let source = Source::Configured;
        if let Ok(address) = text.parse::<IpAddr>() {
            return Some(TimeServer::new(address, source));
        }
        let address = text.parse::<SocketAddr>().ok()?;
        Some(TimeServer { address, source })
    }
}

impl fmt::Display for TimeServer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.address.port() == PORT {
            self.address.ip().fmt(formatter)
        } else {
            self.address.fmt(formatter)
        }
    }
}

/// What is known about the clock.
#[derive(Debug, Clone, PartialEq)]
pub enum News {
    /// There is nobody to ask.
    NoServer,
    /// A server told the time.
    Told(Reading),
    /// Nobody told a time that could be used.
    Trouble(String),
}

/// One answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    /// Who gave it.
    pub server: TimeServer,
    /// How much the clock was behind, in seconds.
    pub offset_seconds: f64,
    /// The clock was set.
    pub stepped: bool,
}

/// Why an answer was not used.
#[derive(Debug, thiserror::Error)]
pub enum ClockError {
    /// No answer, or none that follows the protocol.
    #[error("{0} does not tell the time: {1}")]
    Silent(TimeServer, rsntp::SynchronizationError),
    /// The server's clock is wrong for certain.
    #[error("{0} tells a time before this system was built")]
    Past(TimeServer),
    /// The kernel refuses.
    #[error("cannot set the clock: {0}")]
    Set(rustix::io::Errno),
}

/// Keeps the clock for ever; `servers` are asked in order, until one answers.
pub async fn keep(mut servers: watch::Receiver<Vec<TimeServer>>, news: mpsc::Sender<News>) {
    let mut retry = RETRY_FIRST;
    loop {
        let list = servers.borrow_and_update().clone();
        let told = ask_all(&list).await;
        let wait = match &told {
            News::Told(_) => {
                retry = RETRY_FIRST;
                Some(INTERVAL)
            }
            // Routers are tried once; whoever named a server wants it asked again.
            _ if list.iter().all(|server| server.source == Source::Gateway) => None,
            _ => {
                let wait = retry;
                retry = (retry * 2).min(INTERVAL);
                Some(wait)
            }
        };
        if news.send(told).await.is_err() {
            return;
        }
        tokio::select! {
            changed = servers.changed() => {
                if changed.is_err() {
                    return;
                }
                retry = RETRY_FIRST;
            }
            () = async {
                match wait {
                    Some(wait) => sleep(wait).await,
                    None => std::future::pending().await,
                }
            } => {}
        }
    }
}

async fn ask_all(servers: &[TimeServer]) -> News {
    let mut trouble = None;
    for server in servers {
        for _ in 0..QUESTIONS {
            match ask(*server).await {
                Ok(reading) => return News::Told(reading),
                Err(error) => trouble = Some(error),
            }
        }
    }
    match trouble {
        None => News::NoServer,
        Some(ClockError::Silent(server, _)) if server.source == Source::Gateway => News::NoServer,
        Some(error) => News::Trouble(error.to_string()),
    }
}

async fn ask(server: TimeServer) -> Result<Reading, ClockError> {
    let any: IpAddr = match server.address.ip() {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let config = Config::default()
        .bind_address(SocketAddr::new(any, 0))
        .timeout(ANSWER_TIMEOUT);
    let answer = AsyncSntpClient::with_config(config)
        .synchronize(server.address)
        .await
        .map_err(|error| ClockError::Silent(server, error))?;
    let offset_seconds = answer.clock_offset().as_secs_f64();
    let stepped = match judge(SystemTime::now(), offset_seconds) {
        Judgement::Past => return Err(ClockError::Past(server)),
        Judgement::Right => false,
        Judgement::Set(time) => {
            clock_settime(ClockId::Realtime, time).map_err(ClockError::Set)?;
            true
        }
    };
    Ok(Reading {
        server,
        offset_seconds,
        stepped,
    })
}

/// What to do about an offset.
#[derive(Debug, PartialEq, Eq)]
enum Judgement {
    /// The server cannot be right.
    Past,
    /// The clock is right enough.
    Right,
    /// The clock must be this.
    Set(Timespec),
}

fn judge(now: SystemTime, offset_seconds: f64) -> Judgement {
    // A clock before 1970 cannot be had; then it counts as 1970.
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let offset = Duration::try_from_secs_f64(offset_seconds.abs()).ok();
    let time = match offset {
        Some(offset) if offset_seconds >= 0.0 => now.checked_add(offset),
        Some(offset) => now.checked_sub(offset),
        None => None,
    };
    let Some(time) = time.filter(|time| time.as_secs() >= EARLIEST) else {
        return Judgement::Past;
    };
    if offset_seconds.abs() <= TOLERANCE_SECONDS {
        return Judgement::Right;
    }
    match i64::try_from(time.as_secs()) {
        Ok(tv_sec) => Judgement::Set(Timespec {
            tv_sec,
            tv_nsec: time.subsec_nanos().into(),
        }),
        Err(_) => Judgement::Past,
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::UdpSocket;

    use super::*;

    const DAY: u64 = 86_400;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_clock_that_says_1970_is_set() {
        let years = 1_800_000_000.25;
        let set = Judgement::Set(Timespec {
            tv_sec: 1_800_000_010,
            tv_nsec: 250_000_000,
        });
        assert_eq!(judge(at(10), years), set);
    }

    #[test]
    fn a_clock_that_is_right_is_left_alone() {
        assert_eq!(judge(at(EARLIEST + DAY), 0.4), Judgement::Right);
        assert_eq!(judge(at(EARLIEST + DAY), -0.5), Judgement::Right);
    }

    #[test]
    fn a_clock_that_is_ahead_goes_back() {
        let set = Judgement::Set(Timespec {
            tv_sec: (EARLIEST + 10) as i64,
            tv_nsec: 0,
        });
        assert_eq!(judge(at(EARLIEST + 20), -10.0), set);
    }

    #[test]
    fn times_that_cannot_be_are_refused() {
        let now = at(EARLIEST + DAY);
        for offset in [
            -2.0 * DAY as f64,
            -1e30,
            f64::NAN,
            f64::INFINITY,
            f64::MAX,
            1e19,
        ] {
            assert_eq!(judge(now, offset), Judgement::Past, "{offset}");
        }
        assert_eq!(judge(at(0), 0.0), Judgement::Past);
    }

    #[test]
    fn the_build_date_counts_when_it_is_later() {
        assert_eq!(earliest(Some("1900000000")), 1_900_000_000);
        for text in [None, Some("1"), Some("soon"), Some("")] {
            assert_eq!(earliest(text), 1_793_491_200);
        }
    }

    #[test]
    fn servers_are_addresses() {
        assert_eq!(
            TimeServer::parse("10.0.2.2").unwrap().to_string(),
            "10.0.2.2"
        );
        assert_eq!(TimeServer::parse("fec0::2").unwrap().to_string(), "fec0::2");
        assert_eq!(
            TimeServer::parse("[::1]:1123").unwrap().to_string(),
            "[::1]:1123"
        );
        for text in [
            "",
            "pool.ntp.org",
            "10.0.2",
            "10.0.2.2:99999",
            "\0",
            "10.0.2.2 10.0.2.3",
        ] {
            assert!(TimeServer::parse(text).is_none(), "{text:?}");
        }
    }

    /// Answers one question with whatever `answer` makes of it.
    async fn server(answer: impl Fn(&[u8]) -> Vec<u8> + Send + 'static) -> TimeServer {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut question = [0; 64];
            while let Ok((length, from)) = socket.recv_from(&mut question).await {
                socket
                    .send_to(&answer(&question[..length]), from)
                    .await
                    .unwrap();
            }
        });
        TimeServer {
            address,
            source: Source::Configured,
        }
    }

    /// An answer of a server whose clock is `ahead` seconds before this machine's (RFC 5905).
    fn answer(question: &[u8], ahead: f64) -> Vec<u8> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs_f64();
        let seconds = now + ahead + 2_208_988_800.0;
        let stamp = ((seconds.floor() as u64) << 32) | ((seconds.fract() * 2f64.powi(32)) as u64);
        let mut packet = vec![0; 48];
        packet[..2].copy_from_slice(&[0x24, 1]);
        packet[24..32].copy_from_slice(&question[40..48]);
        packet[32..40].copy_from_slice(&stamp.to_be_bytes());
        packet[40..48].copy_from_slice(&stamp.to_be_bytes());
        packet
    }

    #[tokio::test]
    async fn an_answer_gives_the_offset() {
        let server = server(|question| answer(question, 0.25)).await;
        let reading = ask(server).await.unwrap();
        assert!(!reading.stepped);
        assert!((reading.offset_seconds - 0.25).abs() < 0.2, "{reading:?}");
    }

    #[tokio::test]
    async fn the_first_that_answers_is_believed() {
        let silent = server(|_| Vec::new()).await;
        let good = server(|question| answer(question, 0.1)).await;
        let News::Told(reading) = ask_all(&[silent, good]).await else {
            panic!("no answer")
        };
        assert_eq!(reading.server, good);
    }

    #[tokio::test]
    async fn odd_answers_are_errors() {
        let past = server(|question| answer(question, -1e9)).await;
        assert!(matches!(ask(past).await, Err(ClockError::Past(_))));
        let noise = server(|question| question.iter().map(|byte| byte ^ 0xa5).collect()).await;
        assert!(matches!(ask(noise).await, Err(ClockError::Silent(..))));
        let long = server(|_| vec![0x24; 1400]).await;
        assert!(matches!(ask(long).await, Err(ClockError::Silent(..))));
        let kiss = server(|question| {
            let mut packet = answer(question, 0.0);
            packet[1] = 0;
            packet[12..16].copy_from_slice(b"RATE");
            packet
        })
        .await;
        assert!(matches!(ask(kiss).await, Err(ClockError::Silent(..))));
        assert_eq!(ask_all(&[]).await, News::NoServer);
    }
}
