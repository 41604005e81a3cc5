//! Finite automata over characters and over bytes: from a graph with choices to one without.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use regex_syntax::utf8::Utf8Sequences;

/// Most states of one automaton, before and after its choices are resolved. A pattern of some
/// thousand characters stays below; what multiplies its repetitions does not.
pub(super) const MAX_STATES: usize = 20_000;

/// It would have more than [`MAX_STATES`].
#[derive(Debug, PartialEq)]
pub(super) struct TooLarge;

/// When an edge that takes no symbol may be taken.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum When {
    Always,
    AtStart,
    AtEnd,
}

/// A range of symbols and the state that it leads to.
type Edge = (u32, u32, u32);

/// A graph with choices. State 0 is its start, state 1 its only end.
#[derive(Debug)]
pub(super) struct Graph {
    edges: Vec<Vec<Edge>>,
    free: Vec<Vec<(When, u32)>>,
}

impl Graph {
    pub(super) const START: u32 = 0;
    pub(super) const END: u32 = 1;

    pub(super) fn new() -> Self {
        Self {
            edges: vec![Vec::new(); 2],
            free: vec![Vec::new(); 2],
        }
    }

    pub(super) fn state(&mut self) -> Result<u32, TooLarge> {
        if self.edges.len() >= MAX_STATES {
            return Err(TooLarge);
        }
        self.edges.push(Vec::new());
        self.free.push(Vec::new());
        Ok(self.edges.len() as u32 - 1)
    }

    pub(super) fn edge(&mut self, from: u32, low: u32, high: u32, to: u32) {
        self.edges[from as usize].push((low, high, to));
    }

    pub(super) fn free(&mut self, from: u32, when: When, to: u32) {
        self.free[from as usize].push((when, to));
    }

    fn closure(&self, states: &mut BTreeSet<u32>, start: bool, end: bool) {
        let mut open: Vec<u32> = states.iter().copied().collect();
        while let Some(state) = open.pop() {
            for &(when, to) in &self.free[state as usize] {
                let may = match when {
                    When::Always => true,
                    When::AtStart => start,
                    When::AtEnd => end,
                };
                if may && states.insert(to) {
                    open.push(to);
                }
            }
        }
    }

    /// The automaton without choices, in which every state can come to an end.
    pub(super) fn resolve(&self) -> Result<Machine, TooLarge> {
        let mut first = BTreeSet::from([Self::START]);
        self.closure(&mut first, true, false);
        let mut numbers = HashMap::from([(first.clone(), 0_u32)]);
        let mut sets = vec![first];
        let mut machine = Machine::default();
        // The sizes of the sets together bound the work, not only their number.
        let mut work = 0;
        while machine.states.len() < sets.len() {
            let number = machine.states.len();
            let set = sets[number].clone();
            let mut last = set.clone();
            self.closure(&mut last, number == 0, true);
            let mut state = State {
                accepting: last.contains(&Self::END),
                edges: Vec::new(),
            };
            // Where ranges begin and end; between two such places all lead to the same states.
            let edges = set.iter().flat_map(|&state| &self.edges[state as usize]);
            let ends = edges.flat_map(|&(low, high, to)| [(low, true, to), (high + 1, false, to)]);
            let mut ends: Vec<(u32, bool, u32)> = ends.collect();
            ends.sort_unstable();
            let mut covering: BTreeMap<u32, u32> = BTreeMap::new();
            for (place, &(symbol, begins, to)) in ends.iter().enumerate() {
                let count = covering.entry(to).or_default();
                match begins {
                    true => *count += 1,
                    false => *count -= 1,
                }
                if *count == 0 {
                    covering.remove(&to);
                }
                let Some(&(until, ..)) = ends.get(place + 1) else {
                    break;
                };
                if until == symbol || covering.is_empty() {
                    continue;
                }
                let mut next: BTreeSet<u32> = covering.keys().copied().collect();
                self.closure(&mut next, false, false);
                work += next.len();
                let to = match numbers.get(&next) {
                    Some(&to) => to,
                    None => {
                        let to = sets.len() as u32;
                        numbers.insert(next.clone(), to);
                        sets.push(next);
                        to
                    }
                };
                state.push(symbol, until - 1, to);
            }
            machine.states.push(state);
            if sets.len() > MAX_STATES || work > 500 * MAX_STATES {
                return Err(TooLarge);
            }
        }
        machine.trim();
        Ok(machine)
    }
}

#[derive(Debug, Clone, Default)]
struct State {
    accepting: bool,
    /// Disjoint, in order.
    edges: Vec<Edge>,
}

impl State {
    fn push(&mut self, low: u32, high: u32, to: u32) {
        match self.edges.last_mut() {
            Some(last) if last.2 == to && last.1 + 1 == low => last.1 = high,
            _ => self.edges.push((low, high, to)),
        }
    }

    fn next(&self, symbol: u32) -> Option<u32> {
        let found = self.edges.iter().find(|e| e.0 <= symbol && symbol <= e.1);
        found.map(|edge| edge.2)
    }
}

/// An automaton without choices. State 0 is its start; it has none when it accepts nothing.
#[derive(Debug, Clone, Default)]
pub(super) struct Machine {
    states: Vec<State>,
}

impl Machine {
    pub(super) fn is_empty(&self) -> bool {
        self.states.is_empty()
    }

    pub(super) fn accepts(&self, symbols: impl Iterator<Item = u32>) -> bool {
        let mut state = self.states.first();
        for symbol in symbols {
            let next = state.and_then(|state| state.next(symbol));
            state = next.map(|next| &self.states[next as usize]);
        }
        state.is_some_and(|state| state.accepting)
    }

    /// Takes away the edges to states that can never accept.
    fn trim(&mut self) {
        let distances = self.distances();
        for state in &mut self.states {
            state.edges.retain(|e| distances[e.2 as usize] != u32::MAX);
        }
        if distances.first() == Some(&u32::MAX) {
            self.states.clear();
        }
    }

    /// For each state the symbols of the shortest way to acceptance.
    fn distances(&self) -> Vec<u32> {
        let mut before = vec![Vec::new(); self.states.len()];
        let mut distances = vec![u32::MAX; self.states.len()];
        let mut queue = std::collections::VecDeque::new();
        for (number, state) in self.states.iter().enumerate() {
            for edge in &state.edges {
                before[edge.2 as usize].push(number);
            }
            if state.accepting {
                distances[number] = 0;
                queue.push_back(number);
            }
        }
        while let Some(number) = queue.pop_front() {
            for &earlier in &before[number] {
                if distances[earlier] == u32::MAX {
                    distances[earlier] = distances[number] + 1;
                    queue.push_back(earlier);
                }
            }
        }
        distances
    }

    /// What both accept.
    pub(super) fn and(&self, other: &Self) -> Result<Self, TooLarge> {
        if self.is_empty() || other.is_empty() {
            return Ok(Self::default());
        }
        self.product((0, 0), |&(a, b)| {
            let (a, b) = (&self.states[a as usize], &other.states[b as usize]);
            let mut edges = Vec::new();
            for &(low, high, to) in &a.edges {
                for &(other_low, other_high, other_to) in &b.edges {
                    let (low, high) = (low.max(other_low), high.min(other_high));
                    if low <= high {
                        edges.push((low, high, (to, other_to)));
                    }
                }
            }
            (a.accepting && b.accepting, edges)
        })
    }

    /// What it accepts of `least` to `most` symbols.
    pub(super) fn within(&self, least: u32, most: u32) -> Result<Self, TooLarge> {
        if self.is_empty() || (least == 0 && most == u32::MAX) {
            return Ok(self.clone());
        }
        // Counting beyond the bound that matters last would never end.
        let enough = if most == u32::MAX { least } else { most };
        self.product((0, 0), |&(number, count)| {
            let state = &self.states[number as usize];
            let full = most != u32::MAX && count >= most;
            let next = (count + 1).min(enough);
            let edges = state.edges.iter().filter(|_| !full);
            let edges = edges.map(|&(low, high, to)| (low, high, (to, next)));
            (state.accepting && count >= least, edges.collect())
        })
    }

    fn product(
        &self,
        start: (u32, u32),
        look: impl Fn(&(u32, u32)) -> (bool, Vec<(u32, u32, (u32, u32))>),
    ) -> Result<Self, TooLarge> {
        let mut numbers = HashMap::from([(start, 0_u32)]);
        let mut pairs = vec![start];
        let mut machine = Self::default();
        while machine.states.len() < pairs.len() {
            let (accepting, edges) = look(&pairs[machine.states.len()]);
            let mut state = State {
                accepting,
                edges: Vec::new(),
            };
            for (low, high, pair) in edges {
                let to = *numbers.entry(pair).or_insert_with(|| {
                    pairs.push(pair);
                    pairs.len() as u32 - 1
                });
                state.push(low, high, to);
            }
            machine.states.push(state);
            if pairs.len() > MAX_STATES {
                return Err(TooLarge);
            }
        }
        machine.trim();
        Ok(machine)
    }

    /// All texts but these.
    pub(super) fn except(names: &[&str]) -> Result<Self, TooLarge> {
        // State 0 is the root of the tree of names, state 1 is outside of it.
        let mut machine = Self::default();
        machine.states.resize(2, State::default());
        let mut ends = BTreeSet::new();
        let mut tree: Vec<BTreeMap<u32, u32>> = vec![BTreeMap::new(); 2];
        for name in names {
            let mut state = 0;
            for symbol in name.chars().map(u32::from) {
                let fresh = tree.len() as u32;
                state = *tree[state as usize].entry(symbol).or_insert(fresh);
                if state == fresh {
                    tree.push(BTreeMap::new());
                }
            }
            ends.insert(state);
        }
        if tree.len() > MAX_STATES {
            return Err(TooLarge);
        }
        machine.states.resize(tree.len(), State::default());
        for (number, branches) in tree.iter().enumerate() {
            let state = &mut machine.states[number];
            state.accepting = !ends.contains(&(number as u32));
            for (low, high) in [(0, 0xD7FF), (0xE000, 0x10_FFFF)] {
                let mut from = low;
                for (&symbol, &to) in branches.range(low..=high) {
                    if from < symbol {
                        state.push(from, symbol - 1, 1);
                    }
                    state.push(symbol, symbol, to);
                    from = symbol + 1;
                }
                if from <= high {
                    state.push(from, high, 1);
                }
            }
        }
        Ok(machine)
    }

    /// The automaton over bytes for the JSON texts of the texts over characters that this accepts,
    /// quotes included. Each text has one form: what need not be escaped is not.
    pub(super) fn in_json(&self) -> Result<Self, TooLarge> {
        if self.is_empty() {
            return Ok(Self::default());
        }
        let mut graph = Graph::new();
        let states: Vec<u32> = (self.states.iter())
            .map(|_| graph.state())
            .collect::<Result<_, _>>()?;
        let mut tails = Tails::new();
        let quote = u32::from(b'"');
        graph.edge(Graph::START, quote, quote, states[0]);
        for (state, &from) in self.states.iter().zip(&states) {
            if state.accepting {
                graph.edge(from, quote, quote, Graph::END);
            }
            for &(low, high, to) in &state.edges {
                json_edges(
                    &mut graph,
                    &mut tails,
                    from,
                    (low, high),
                    states[to as usize],
                )?;
            }
        }
        graph.resolve()
    }
}

/// The states before the last bytes of characters, by these bytes and the state behind them: the
/// thousands of ranges of a class of letters share them.
type Tails = HashMap<(u32, u8, u8), u32>;

/// Edges from one state to another for the bytes of a range of characters in a JSON text.
fn json_edges(
    graph: &mut Graph,
    tails: &mut Tails,
    from: u32,
    (low, high): (u32, u32),
    to: u32,
) -> Result<(), TooLarge> {
    let mut plain_from = low;
    let special = (0..0x20).chain([u32::from(b'"'), u32::from(b'\\')]);
    for symbol in special.filter(|s| low <= *s && *s <= high) {
        plain_edges(graph, tails, from, (plain_from, symbol.wrapping_sub(1)), to)?;
        plain_from = symbol + 1;
        let text = String::from(char::from(symbol as u8));
        let written = serde_json::Value::String(text).to_string();
        let bytes = &written.as_bytes()[1..written.len() - 1];
        let mut state = from;
        for (place, &byte) in bytes.iter().enumerate() {
            let next = if place + 1 == bytes.len() {
                to
            } else {
                graph.state()?
            };
            graph.edge(state, byte.into(), byte.into(), next);
            state = next;
        }
    }
    plain_edges(graph, tails, from, (plain_from, high), to)
}

fn plain_edges(
    graph: &mut Graph,
    tails: &mut Tails,
    from: u32,
    (low, high): (u32, u32),
    to: u32,
) -> Result<(), TooLarge> {
    // The symbols between two special ones may be none, and 0 - 1 is none as well.
    if low > high || high > 0x10_FFFF {
        return Ok(());
    }
    let low = char::from_u32(low).unwrap_or('\u{E000}');
    let high = char::from_u32(high).unwrap_or('\u{D7FF}');
    for sequence in Utf8Sequences::new(low, high) {
        let Some((first, rest)) = sequence.as_slice().split_first() else {
            continue;
        };
        let mut state = to;
        for range in rest.iter().rev() {
            let key = (state, range.start, range.end);
            let before = match tails.get(&key) {
                Some(&before) => before,
                None => graph.state()?,
            };
            if tails.insert(key, before).is_none() {
                graph.edge(before, range.start.into(), range.end.into(), state);
            }
            state = before;
        }
        graph.edge(from, first.start.into(), first.end.into(), state);
    }
    Ok(())
}

/// A [`Machine`] over bytes, ready to be run.
#[derive(Debug)]
pub(super) struct Dfa {
    states: Vec<ByteState>,
}

#[derive(Debug)]
struct ByteState {
    edges: Box<[(u8, u8, u32)]>,
    accepting: bool,
    /// Bytes of the shortest way to acceptance.
    distance: u32,
    /// Within a text, and every character that needs no escape leads back here.
    plain: bool,
}

impl Dfa {
    pub(super) fn new(machine: &Machine) -> Self {
        let distances = machine.distances();
        let mut dfa = Self {
            states: machine
                .states
                .iter()
                .zip(distances)
                .map(|(state, distance)| ByteState {
                    edges: (state.edges.iter())
                        .map(|&(low, high, to)| (low as u8, high as u8, to))
                        .collect(),
                    accepting: state.accepting,
                    distance,
                    plain: false,
                })
                .collect(),
        };
        for state in 0..dfa.states.len() {
            dfa.states[state].plain = dfa.returns(state as u32);
        }
        dfa
    }

    fn returns(&self, state: u32) -> bool {
        let ascii = (0x20..0x7F_u8).filter(|byte| !matches!(byte, b'"' | b'\\'));
        if !ascii
            .into_iter()
            .all(|byte| self.next(state, byte) == Some(state))
        {
            return false;
        }
        Utf8Sequences::new('\u{7F}', char::MAX).all(|sequence| {
            let mut states = BTreeSet::from([state]);
            for range in sequence.as_slice() {
                let mut next = BTreeSet::new();
                for &state in &states {
                    for byte in range.start..=range.end {
                        match self.next(state, byte) {
                            Some(to) => next.insert(to),
                            None => return false,
                        };
                    }
                }
                states = next;
            }
            states == BTreeSet::from([state])
        })
    }

    pub(super) fn len(&self) -> usize {
        self.states.len()
    }

    pub(super) fn next(&self, state: u32, byte: u8) -> Option<u32> {
        let edges = &self.states[state as usize].edges;
        let found = edges.iter().find(|edge| byte <= edge.1)?;
        (found.0 <= byte).then_some(found.2)
    }

    pub(super) fn accepting(&self, state: u32) -> bool {
        self.states[state as usize].accepting
    }

    /// Whether anything can follow.
    pub(super) fn goes_on(&self, state: u32) -> bool {
        !self.states[state as usize].edges.is_empty()
    }

    pub(super) fn distance(&self, state: u32) -> u32 {
        self.states
            .get(state as usize)
            .map_or(u32::MAX, |s| s.distance)
    }

    pub(super) fn plain(&self, state: u32) -> bool {
        self.states[state as usize].plain
    }

    /// The first byte of a shortest way to acceptance; None where it is reached.
    pub(super) fn towards_end(&self, state: u32) -> Option<u8> {
        let here = &self.states[state as usize];
        let nearer = |edge: &&(u8, u8, u32)| self.distance(edge.2) < here.distance;
        here.edges.iter().find(nearer).map(|edge| edge.0)
    }
}
