//! What the engine does with requests, cancellations and panics, on the tiny models.

use std::path::Path;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;
use crate::library::Library;
use crate::options::Options;

fn job(prompt: Prompt, keep_alive: KeepAlive) -> (Job, UnboundedReceiver<Event>) {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/models");
    let model = Library::new(&models).find("tiny-q4_0").unwrap();
    let options = serde_json::json!({"temperature": 0, "num_predict": 4});
    let options: Options = serde_json::from_value(options).unwrap();
    let settings = options.check().unwrap();
    let (events, receiver) = unbounded_channel();
    (
        Job {
            model,
            prompt,
            settings,
            keep_alive,
            events,
        },
        receiver,
    )
}

fn ask(engine: &Engine, prompt: Prompt) -> Event {
    let (job, mut events) = job(prompt, KeepAlive::Forever);
    engine.submit(job).unwrap();
    loop {
        match events.blocking_recv().unwrap() {
            Event::Text(_) | Event::Token(_) | Event::Vectors(_) => {}
            end => return end,
        }
    }
}

fn hello() -> Prompt {
    Prompt::Raw("Hello".to_owned())
}

#[test]
fn a_panic_is_an_error_and_the_engine_lives_on() {
    let (engine, mut ended) = Engine::start(Limits::default(), 2).unwrap();
    assert!(matches!(ask(&engine, hello()), Event::Done(_)));
    for _ in 0..3 {
        let Event::Failed(failure) = ask(&engine, Prompt::Panic) else {
            panic!("no failure")
        };
        assert_eq!(failure.refusal, Refusal::Internal);
        assert!(
            failure.text.contains("a test asked for it"),
            "{}",
            failure.text
        );
        assert!(engine.status().is_none(), "the model is unloaded");
        assert!(matches!(ask(&engine, hello()), Event::Done(_)));
    }
    assert!(ended.try_recv().is_err());
}

#[test]
fn two_panics_in_a_row_end_the_engine() {
    let (engine, ended) = Engine::start(Limits::default(), 2).unwrap();
    assert!(matches!(ask(&engine, Prompt::Panic), Event::Failed(_)));
    assert!(matches!(ask(&engine, Prompt::Panic), Event::Failed(_)));
    assert_eq!(ended.blocking_recv(), Ok(false));
}

#[test]
fn a_client_that_has_left_costs_nothing() {
    let (engine, _ended) = Engine::start(Limits::default(), 2).unwrap();
    let (mut endless, events) = job(hello(), KeepAlive::Forever);
    endless.settings.predict = None;
    endless.settings.context = usize::MAX;
    drop(events);
    engine.submit(endless).unwrap();
    assert!(matches!(ask(&engine, hello()), Event::Done(_)));
}

#[test]
fn an_unused_model_is_unloaded() {
    let (engine, _ended) = Engine::start(Limits::default(), 2).unwrap();
    let (short, mut events) = job(hello(), KeepAlive::For(Duration::from_millis(1)));
    let mut status = engine.status.clone();
    engine.submit(short).unwrap();
    while let Event::Text(_) = events.blocking_recv().unwrap() {}
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let gone = async { status.wait_for(Option::is_none).await.map(|_| ()) };
    let waited = async { tokio::time::timeout(Duration::from_secs(60), gone).await };
    runtime.block_on(waited).expect("in time").unwrap();
}

#[test]
fn stopping_refuses_those_that_wait() {
    let (engine, ended) = Engine::start(Limits::default(), 2).unwrap();
    let (mut long, mut events) = job(hello(), KeepAlive::Forever);
    long.settings.predict = None;
    engine.submit(long).unwrap();
    assert!(matches!(events.blocking_recv(), Some(Event::Text(_))));
    engine.stop();
    let last = std::iter::from_fn(|| events.blocking_recv()).last();
    // It may have been at its end by itself.
    match last {
        Some(Event::Failed(failure)) => assert_eq!(failure.refusal, Refusal::Stopping),
        other => assert!(matches!(other, Some(Event::Done(_)))),
    }
    assert_eq!(ended.blocking_recv(), Ok(true));
}

/// The text and the summary of an answer.
fn answer(events: &mut UnboundedReceiver<Event>) -> (String, Summary) {
    let mut said = String::new();
    loop {
        match events.blocking_recv().unwrap() {
            Event::Text(text) => said += &text,
            Event::Done(summary) => return (said, summary),
            Event::Failed(failure) => panic!("{failure:?}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn answers_given_together_are_those_given_alone() {
    let (engine, _ended) = Engine::start(Limits::default(), 2).unwrap();
    let prompts = [
        "Hello",
        "What is the answer to",
        "The old cat",
        "a a a a a a a",
    ];
    let begin = |text: &str| {
        let (mut job, events) = job(Prompt::Raw(text.to_owned()), KeepAlive::Forever);
        job.settings.predict = Some(40);
        engine.submit(job).unwrap();
        events
    };
    let alone: Vec<_> = prompts
        .iter()
        .map(|text| answer(&mut begin(text)))
        .collect();
    let mut together: Vec<_> = prompts.iter().map(|text| begin(text)).collect();
    for (events, (text, summary)) in together.iter_mut().zip(&alone) {
        let (found, done) = answer(events);
        assert_eq!(found, *text);
        assert_eq!(done.context, summary.context);
    }
}

#[test]
fn a_second_turn_is_the_same_with_what_is_kept_of_the_first() {
    let (engine, _ended) = Engine::start(Limits::default(), 2).unwrap();
    let turn = |text: &str| {
        let (mut job, mut events) = job(Prompt::Raw(text.to_owned()), KeepAlive::Forever);
        job.settings.predict = Some(20);
        engine.submit(job).unwrap();
        answer(&mut events)
    };
    let (first, _) = turn("The box wakes up");
    let longer = format!("The box wakes up{first} and then");
    let (kept, summary) = turn(&longer);
    // Unloading forgets what was kept.
    assert!(matches!(ask(&engine, Prompt::Unload), Event::Done(_)));
    let (fresh, whole) = turn(&longer);
    assert_eq!(kept, fresh);
    assert_eq!(summary.context, whole.context);
}
