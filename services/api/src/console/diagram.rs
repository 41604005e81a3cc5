//! A service's life as a drawing: the eight states, the ways between them, and where it is.
//!
//! The drawing is the one of ARCHITECTURE.md. It is for the eye; the state's name and its reason
//! stand beside it as text.

/// Width and height of a state's box.
pub const BOX: (u32, u32) = (92, 26);

/// One state.
pub struct Node {
    /// Its name.
    pub name: &'static str,
    /// Left and top of its box.
    pub x: u32,
    /// See `x`.
    pub y: u32,
    /// Whether the service is there.
    pub here: bool,
}

impl Node {
    /// Where its name is written.
    pub fn middle(&self) -> u32 {
        self.x + BOX.0 / 2
    }

    /// See [`Node::middle`].
    pub fn baseline(&self) -> u32 {
        self.y + 17
    }
}

/// The drawing.
pub struct Diagram {
    /// All states.
    pub nodes: Vec<Node>,
    /// The ways, as paths.
    pub ways: &'static [&'static str],
}

/// Where each state is drawn: the usual way from left to right, what went wrong below, what an
/// operator does above.
const PLACES: [(&str, u32, u32); 8] = [
    ("stopped", 0, 66),
    ("starting", 130, 66),
    ("ready", 260, 66),
    ("stopping", 390, 66),
    ("frozen", 260, 6),
    ("quarantined", 0, 6),
    ("backoff", 130, 126),
    ("failed", 260, 126),
];

const WAYS: [&str; 10] = [
    "M92 79h35",        // stopped → starting
    "M222 79h35",       // starting → ready
    "M352 79h35",       // ready → stopping
    "M436 92v82H46V95", // stopping → stopped
    "M300 66V35",       // ready → frozen
    "M312 32v31",       // frozen → ready
    "M46 32v31",        // quarantined → stopped
    "M164 126V95",      // backoff → starting
    "M260 90l-40 34",   // ready → backoff
    "M222 139h35",      // backoff → failed
];

impl Diagram {
    /// A service in this state.
    pub fn at(state: &str) -> Self {
        Diagram {
            nodes: PLACES
                .iter()
                .map(|(name, x, y)| Node {
                    name,
                    x: *x,
                    y: *y,
                    here: *name == state,
                })
                .collect(),
            ways: &WAYS,
        }
    }
}

#[cfg(test)]
mod tests {
    use kos_sdk::control::State;

    use super::*;

    #[test]
    fn every_state_has_its_place() {
        for state in State::ALL {
            let drawn = Diagram::at(state.as_str());
            assert_eq!(
                drawn.nodes.iter().filter(|node| node.here).count(),
                1,
                "{state}"
            );
        }
    }
}
