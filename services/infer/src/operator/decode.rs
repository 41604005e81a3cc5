//! From the model's opinions to a call: the best one that the API has.
//!
//! Every kind of call has a grammar: which labels its words may have, and whether a service must be
//! among them. Of each kind the best labelling that its grammar allows is found, and the kind that
//! is best together with its labelling is the call. So what comes out is always a call that can be
//! made; what the model is least sure of is bent by what it is surest of.

use super::call::{Call, Kind, Since};
use super::labels::{DAYS, LABELS, Label, OWN, OWN_SERVICES};
use super::{numbers, words};

/// What the model thinks of a request: logarithms of probabilities.
#[derive(Debug, Clone)]
pub struct Opinion {
    /// Of each kind of call, by its number.
    pub kinds: Vec<f32>,
    /// Of each word, of each label by its number.
    pub labels: Vec<Vec<f32>>,
}

/// How much the labels count beside the kind: there are many of them, and each errs by itself.
const LABEL_WEIGHT: f32 = 0.5;
/// Most words that a name is put together of.
const MAX_NAME_WORDS: usize = 4;
/// Most lines that can be asked for, as the log's route allows.
const MAX_LIMIT: u32 = 1000;

/// The best call for a request.
#[must_use]
pub fn decode(request: &[String], opinion: &Opinion) -> Call {
    let mut best: Option<(f32, Kind, Vec<Label>)> = None;
    for kind in Kind::ALL {
        let Some((score, labels)) = labelling(kind, opinion) else {
            continue;
        };
        let score = opinion.kinds[kind as usize] + LABEL_WEIGHT * score;
        if best.as_ref().is_none_or(|(most, ..)| score > *most) {
            best = Some((score, kind, labels));
        }
    }
    match best {
        Some((_, kind, labels)) => assemble(kind, request, &labels),
        None => Call::of(Kind::None),
    }
}

/// Whether a kind's grammar has that label.
fn allows(kind: Kind, label: Label) -> bool {
    match label {
        Label::Plain => true,
        Label::Name => kind.needs_service() || kind == Kind::Logs,
        Label::Own(number) => kind == Kind::Logs || (kind.needs_service() && number < OWN_SERVICES),
        // What a service is asked may have a time in it, which does not matter.
        Label::Amount | Label::Unit | Label::Day(_) | Label::Level(_) => kind == Kind::Logs,
        Label::Limit | Label::Search => kind == Kind::Logs,
    }
}

/// The best labelling that the kind allows, and its score.
fn labelling(kind: Kind, opinion: &Opinion) -> Option<(f32, Vec<Label>)> {
    let words = opinion.labels.len();
    let pick = |word: usize, test: &dyn Fn(Label) -> bool| {
        LABELS
            .iter()
            .enumerate()
            .filter(|(_, label)| allows(kind, **label) && test(**label))
            .map(|(number, &label)| (opinion.labels[word][number], label))
            .max_by(|left, right| left.0.total_cmp(&right.0))
    };
    // Without a service first; then the run of words that gains most, or loses least, as its name.
    let mut labels = Vec::with_capacity(words);
    let mut score = 0.0;
    let mut without = Vec::with_capacity(words);
    for word in 0..words {
        let (value, label) = pick(word, &|label| !names_service(label))?;
        without.push(value);
        score += value;
        labels.push(label);
    }
    let mut best: Option<(f32, usize, usize, Label)> = None;
    for own in LABELS
        .into_iter()
        .filter(|&label| names_service(label) && allows(kind, label))
    {
        let number = own.number();
        for start in 0..words {
            let mut gain = 0.0;
            let run = opinion.labels.iter().zip(&without).enumerate();
            for (end, (labels, without)) in run.skip(start).take(MAX_NAME_WORDS) {
                gain += labels[number] - without;
                if best.is_none_or(|(most, ..)| gain > most) {
                    best = Some((gain, start, end, own));
                }
            }
        }
    }
    match best {
        Some((gain, start, end, label)) if gain > 0.0 || kind.needs_service() => {
            labels[start..=end].fill(label);
            Some((score + gain, labels))
        }
        _ if kind.needs_service() => None,
        _ => Some((score, labels)),
    }
}

fn names_service(label: Label) -> bool {
    matches!(label, Label::Name | Label::Own(_))
}

fn assemble(kind: Kind, request: &[String], labels: &[Label]) -> Call {
    let mut call = Call::of(kind);
    let labelled = |wanted: fn(Label) -> bool| {
        request
            .iter()
            .zip(labels)
            .filter(move |(_, label)| wanted(**label))
            .map(|(word, &label)| (word.as_str(), label))
    };
    if let Some((_, Label::Own(number))) = labelled(|label| matches!(label, Label::Own(_))).next() {
        call.service = Some(OWN[usize::from(number)].to_owned());
    } else {
        let parts: Vec<&str> = labelled(|label| label == Label::Name)
            .map(|(word, _)| word)
            .filter(|word| !words::is_mark(word))
            .collect();
        call.service = Some(parts.join("-")).filter(|name| !name.is_empty());
    }
    if kind.needs_service() && call.service.is_none() {
        return Call::of(Kind::None);
    }
    if kind != Kind::Logs {
        return call;
    }
    call.level = labelled(|label| matches!(label, Label::Level(_)))
        .filter_map(|(_, label)| match label {
            Label::Level(level) => Some(level),
            _ => None,
        })
        .max();
    let amount = labelled(|label| label == Label::Amount).next();
    let unit = labelled(|label| label == Label::Unit).next();
    let day = labelled(|label| matches!(label, Label::Day(_))).next();
    call.since = match (unit, day) {
        (Some((unit, _)), _) => numbers::ago(amount.map(|(word, _)| word), unit).map(Since::Ago),
        (None, Some((_, Label::Day(number)))) => Some(Since::Day(DAYS[usize::from(number)])),
        _ => None,
    };
    call.limit = labelled(|label| label == Label::Limit)
        .find_map(|(word, _)| numbers::count(word))
        .filter(|&limit| limit > 0)
        .map(|limit| limit.min(MAX_LIMIT));
    let search = quoted(request, labels).unwrap_or_else(|| {
        let words: Vec<&str> = labelled(|label| label == Label::Search)
            .map(|(word, _)| word)
            .filter(|word| !words::is_mark(word))
            .collect();
        words.join(" ")
    });
    call.search = Some(search).filter(|text| !text.is_empty());
    call
}

/// What stands in quotation marks around a word to look for is one text, all of it.
fn quoted(request: &[String], labels: &[Label]) -> Option<String> {
    let marks: Vec<usize> = (0..request.len())
        .filter(|&place| request[place] == "\"")
        .collect();
    let is_wanted = |pair: &&[usize]| labels[pair[0]..pair[1]].contains(&Label::Search);
    let pair = marks.chunks_exact(2).find(is_wanted)?;
    Some(request[pair[0] + 1..pair[1]].join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opinion(kind: Kind, sure: f32, labels: &[Label]) -> Opinion {
        let mut kinds = vec![-9.0; Kind::ALL.len()];
        kinds[kind as usize] = sure;
        let labels = labels.iter().map(|label| {
            let mut all = vec![-6.0; LABELS.len()];
            all[label.number()] = -0.01;
            all
        });
        Opinion {
            kinds,
            labels: labels.collect(),
        }
    }

    #[test]
    fn arguments_are_read_off_the_words() {
        let request = words::split("errors of door cam in the last 2 hours with \"no route\"");
        use Label::{Amount, Level, Name, Plain, Search, Unit};
        let labels = [
            Level(3),
            Plain,
            Name,
            Name,
            Plain,
            Plain,
            Plain,
            Amount,
            Unit,
            Plain,
            Plain,
            // Not seen as a part of the text, but it stands in its quotation marks.
            Plain,
            Search,
            Plain,
        ];
        let call = decode(&request, &opinion(Kind::Logs, -0.1, &labels));
        let expected = Call {
            service: Some("door-cam".into()),
            level: Some(3),
            since: Some(Since::Ago("-2h".into())),
            search: Some("no route".into()),
            ..Call::of(Kind::Logs)
        };
        assert_eq!(call, expected);
    }

    #[test]
    fn a_call_always_fits_its_grammar() {
        let request = words::split("restart it 5 errors");
        use Label::{Level, Limit, Own, Plain};
        // Sure that it is a restart, and blind for what: some word must be the service.
        let labels = [Plain, Plain, Limit, Level(3)];
        let call = decode(&request, &opinion(Kind::Restart, -0.01, &labels));
        assert!(
            call.kind == Kind::None || call.service.is_some(),
            "{call:?}"
        );
        assert!(call.level.is_none() && call.limit.is_none());
        // The kernel writes to the log but is no service.
        assert!(allows(Kind::Logs, Own(3)) && !allows(Kind::Restart, Own(3)));
    }

    #[test]
    fn what_is_sure_bends_what_is_not() {
        // Nearly as good as a reboot, but a name stands in it.
        let mut opinion = opinion(Kind::Reboot, -0.6, &[Label::Plain, Label::Name]);
        opinion.kinds[Kind::Restart as usize] = -0.8;
        let call = decode(&words::split("reboot cam"), &opinion);
        assert_eq!(
            (call.kind, call.service.as_deref()),
            (Kind::Restart, Some("cam"))
        );
    }
}
