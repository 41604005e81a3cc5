//! Numbers within bounds, as automata over their digits.

use std::cmp::Ordering;
use std::collections::HashMap;

use serde_json::Number;

use super::automaton::{Graph, Machine, TooLarge, When};
use super::pattern;

/// Digits before the point of a number without a bound, and all digits of one with a fraction: so
/// many are exact in a double.
const DIGITS: usize = 15;
/// Digits before the point that a bound may have.
pub(super) const MAX_DIGITS: usize = 30;

/// A decimal number.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Decimal {
    negative: bool,
    /// Without leading zeros, but `0` alone.
    whole: Vec<u8>,
    /// Without trailing zeros.
    fraction: Vec<u8>,
}

impl Decimal {
    pub(super) fn new(number: &Number) -> Self {
        let text = match number.as_i64() {
            Some(number) => number.to_string(),
            None => match number.as_u64() {
                Some(number) => number.to_string(),
                // Rust writes all digits and no exponent.
                None => format!("{}", number.as_f64().unwrap_or(0.0)),
            },
        };
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text.as_str()),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let fraction = fraction.trim_end_matches('0');
        Self {
            negative: negative && (whole != "0" || !fraction.is_empty()),
            whole: whole.as_bytes().to_vec(),
            fraction: fraction.as_bytes().to_vec(),
        }
    }

    /// Digits before the point.
    pub(super) fn digits(&self) -> usize {
        self.whole.len()
    }

    pub(super) fn is_whole(&self) -> bool {
        self.fraction.is_empty()
    }

    fn size(&self, other: &Self) -> Ordering {
        let lengths = self.whole.len().cmp(&other.whole.len());
        let wholes = lengths.then_with(|| self.whole.cmp(&other.whole));
        wholes.then_with(|| self.fraction.cmp(&other.fraction))
    }

    pub(super) fn compare(&self, other: &Self) -> Ordering {
        match (self.negative, other.negative) {
            (false, true) => Ordering::Greater,
            (true, false) => Ordering::Less,
            (false, false) => self.size(other),
            (true, true) => other.size(self),
        }
    }

    fn zero() -> Self {
        Self {
            negative: false,
            whole: vec![b'0'],
            fraction: Vec::new(),
        }
    }
}

/// An end of a range.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Bound {
    pub(super) value: Decimal,
    /// Whether the value itself is outside.
    pub(super) exclusive: bool,
}

/// Both ends.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Range {
    pub(super) least: Option<Bound>,
    pub(super) most: Option<Bound>,
}

impl Range {
    /// Narrows it by another.
    pub(super) fn and(&mut self, other: &Self) {
        for bound in other.least.iter().cloned() {
            self.at_least(bound);
        }
        for bound in other.most.iter().cloned() {
            self.at_most(bound);
        }
    }

    pub(super) fn at_least(&mut self, bound: Bound) {
        let tighter = |old: &Bound| match bound.value.compare(&old.value) {
            Ordering::Equal => bound.exclusive,
            order => order == Ordering::Greater,
        };
        if self.least.as_ref().is_none_or(tighter) {
            self.least = Some(bound);
        }
    }

    pub(super) fn at_most(&mut self, bound: Bound) {
        let tighter = |old: &Bound| match bound.value.compare(&old.value) {
            Ordering::Equal => bound.exclusive,
            order => order == Ordering::Less,
        };
        if self.most.as_ref().is_none_or(tighter) {
            self.most = Some(bound);
        }
    }

    pub(super) fn contains(&self, value: &Decimal) -> bool {
        let least = self.least.as_ref().is_none_or(|bound| {
            let order = value.compare(&bound.value);
            order == Ordering::Greater || (order == Ordering::Equal && !bound.exclusive)
        });
        least
            && self.most.as_ref().is_none_or(|bound| {
                let order = value.compare(&bound.value);
                order == Ordering::Less || (order == Ordering::Equal && !bound.exclusive)
            })
    }
}

/// The automaton of the numbers within a range, in plain decimal form.
pub(super) fn machine(range: &Range, integer: bool) -> Result<Machine, TooLarge> {
    if *range == Range::default() {
        let pattern = match integer {
            true => "^(0|-?[1-9][0-9]{0,14})$",
            // Exponents of two digits stay within a double.
            false => r"^-?(0|[1-9][0-9]{0,14})(\.[0-9]{1,15})?([eE][+-]?[0-9]{1,2})?$",
        };
        return pattern::read(pattern).map_err(|_| TooLarge);
    }
    let mut graph = Graph::new();
    let zero = |exclusive| {
        Some(Bound {
            value: Decimal::zero(),
            exclusive,
        })
    };
    let negative = |bound: &&Bound| bound.value.negative;
    let positive = |bound: &&Bound| !bound.value.negative;
    // From zero upwards.
    if range
        .most
        .as_ref()
        .is_none_or(|bound| !bound.value.negative)
    {
        let least = range.least.as_ref().filter(positive).cloned();
        let digits = Digits {
            least: least.or(zero(false)),
            most: range.most.clone(),
            integer,
        };
        digits.add(&mut graph, Graph::START)?;
    }
    // Below zero, mirrored.
    if range
        .least
        .as_ref()
        .is_none_or(|bound| bound.value.negative)
    {
        let minus = graph.state()?;
        graph.edge(Graph::START, b'-'.into(), b'-'.into(), minus);
        let least = range.most.as_ref().filter(negative).cloned();
        let digits = Digits {
            least: least.or(zero(true)),
            most: range.least.clone(),
            integer,
        };
        digits.add(&mut graph, minus)?;
    }
    graph.resolve()
}

/// Decimal numbers without a sign.
struct Digits {
    least: Option<Bound>,
    most: Option<Bound>,
    integer: bool,
}

/// How far a number is the same as its bounds: below the upper, above the lower, nothing matters
/// any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Same {
    least: bool,
    most: bool,
}

impl Digits {
    fn add(&self, graph: &mut Graph, from: u32) -> Result<(), TooLarge> {
        let lengths = |bound: &Option<Bound>| bound.as_ref().map(|bound| bound.value.whole.len());
        let shortest = lengths(&self.least).unwrap_or(1);
        let longest = lengths(&self.most)
            .unwrap_or(usize::MAX)
            .min(DIGITS.max(shortest));
        // A bound of many digits may be met exactly.
        let longest = match lengths(&self.most) {
            Some(length) if length <= MAX_DIGITS => length,
            _ => longest,
        };
        for length in shortest..=longest {
            let same = Same {
                least: length == shortest,
                most: Some(length) == lengths(&self.most),
            };
            self.whole(graph, from, length, same)?;
        }
        Ok(())
    }

    /// Numbers of `length` digits before the point.
    fn whole(
        &self,
        graph: &mut Graph,
        from: u32,
        length: usize,
        same: Same,
    ) -> Result<(), TooLarge> {
        let mut states = HashMap::from([(same, from)]);
        for place in 0..length {
            let first = if place == 0 && length > 1 { b'1' } else { b'0' };
            let digit =
                |bound: &Option<Bound>| bound.as_ref().map_or(b'0', |b| b.value.whole[place]);
            let bounds = (
                if same.least { digit(&self.least) } else { b'0' },
                if same.most { digit(&self.most) } else { b'9' },
            );
            states = step(graph, &states, first, bounds)?;
        }
        for (same, state) in states {
            let ends = |bound: &Option<Bound>| {
                let bound = bound.as_ref();
                bound.map_or((true, false), |b| (b.value.is_whole(), b.exclusive))
            };
            let (whole, exclusive) = ends(&self.least);
            let above = !same.least || (whole && !exclusive);
            let (whole, exclusive) = ends(&self.most);
            let below = !same.most || !whole || !exclusive;
            if above && below {
                graph.free(state, When::Always, Graph::END);
            }
            if !self.integer {
                self.fraction(graph, state, length, same)?;
            }
        }
        Ok(())
    }

    fn fraction(
        &self,
        graph: &mut Graph,
        from: u32,
        length: usize,
        same: Same,
    ) -> Result<(), TooLarge> {
        let fraction = |bound: &Option<Bound>| {
            let bound = bound.as_ref();
            bound.map_or(Vec::new(), |bound| bound.value.fraction.clone())
        };
        let (least, most) = (fraction(&self.least), fraction(&self.most));
        let exclusive = |bound: &Option<Bound>| bound.as_ref().is_some_and(|b| b.exclusive);
        let point = graph.state()?;
        graph.edge(from, b'.'.into(), b'.'.into(), point);
        let mut states = HashMap::from([(same, point)]);
        let places = DIGITS.saturating_sub(length).max(1);
        for place in 0..places.max(least.len()).max(most.len()).min(2 * MAX_DIGITS) {
            let digit = |digits: &[u8]| digits.get(place).copied().unwrap_or(b'0');
            states = step(graph, &states, b'0', (digit(&least), digit(&most)))?;
            for (same, &state) in &states {
                let above = !same.least || (place + 1 >= least.len() && !exclusive(&self.least));
                let below = !same.most || place + 1 < most.len() || !exclusive(&self.most);
                if above && below {
                    graph.free(state, When::Always, Graph::END);
                }
            }
        }
        Ok(())
    }
}

/// One more digit, from `first` upwards; `bounds` are the bounds' own digits at its place.
fn step(
    graph: &mut Graph,
    states: &HashMap<Same, u32>,
    first: u8,
    (least, most): (u8, u8),
) -> Result<HashMap<Same, u32>, TooLarge> {
    let mut next = HashMap::new();
    for (same, &state) in states {
        for digit in first..=b'9' {
            if (same.least && digit < least) || (same.most && digit > most) {
                continue;
            }
            let then = Same {
                least: same.least && digit == least,
                most: same.most && digit == most,
            };
            let to = match next.get(&then) {
                Some(&to) => to,
                None => {
                    let to = graph.state()?;
                    next.insert(then, to);
                    to
                }
            };
            graph.edge(state, digit.into(), digit.into(), to);
        }
    }
    Ok(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(least: Option<(f64, bool)>, most: Option<(f64, bool)>) -> Range {
        let bound = |(value, exclusive): (f64, bool)| Bound {
            value: Decimal::new(&Number::from_f64(value).unwrap()),
            exclusive,
        };
        Range {
            least: least.map(bound),
            most: most.map(bound),
        }
    }

    /// Every number of a small grid is accepted exactly when it is in the range.
    #[test]
    fn ranges_are_exact() {
        let ends = [
            -20.5, -10.0, -1.0, -0.25, 0.0, 0.3, 1.0, 9.0, 10.0, 99.75, 120.0,
        ];
        for least in ends.iter().map(Some).chain([None]) {
            for most in ends.iter().map(Some).chain([None]) {
                for exclusive in [false, true] {
                    let with = |end: Option<&f64>| end.map(|&end| (end, exclusive));
                    let range = range(with(least), with(most));
                    if range == Range::default() {
                        continue;
                    }
                    for integer in [true, false] {
                        let machine = machine(&range, integer).unwrap();
                        for step in -5000..5000 {
                            let value = f64::from(step) / if integer { 1.0 } else { 20.0 };
                            if value == 0.0 && step < 0 {
                                continue;
                            }
                            let above =
                                least.is_none_or(|&l| value > l || (!exclusive && value == l));
                            let below =
                                most.is_none_or(|&m| value < m || (!exclusive && value == m));
                            let text = value.to_string();
                            assert_eq!(
                                machine.accepts(text.bytes().map(u32::from)),
                                above && below,
                                "{text} in {range:?}, {integer}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn whole_numbers_are_exact_at_64_bits() {
        let bound = |value: Number| {
            Some(Bound {
                value: Decimal::new(&value),
                exclusive: false,
            })
        };
        let range = Range {
            least: bound(i64::MIN.into()),
            most: bound(u64::MAX.into()),
        };
        let machine = machine(&range, true).unwrap();
        for (text, allowed) in [
            ("-9223372036854775808", true),
            ("-9223372036854775809", false),
            ("18446744073709551615", true),
            ("18446744073709551616", false),
            ("007", false),
            ("-0", false),
            ("1.0", false),
        ] {
            assert_eq!(
                machine.accepts(text.bytes().map(u32::from)),
                allowed,
                "{text}"
            );
        }
    }
}
