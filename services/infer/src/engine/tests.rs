//! What the engine does with requests, cancellations and panics, on the tiny models.

use std::path::{Path, PathBuf};

use super::*;
use crate::library::Library;
use crate::options::Options;

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/models")
}

fn start(setup: Setup) -> (Engine, oneshot::Receiver<bool>) {
    Engine::start(Setup {
        threads: 2,
        ..setup
    })
    .unwrap()
}

fn job(prompt: Prompt, keep_alive: KeepAlive) -> (Job, Heard) {
    job_for("tiny-q4_0", prompt, keep_alive)
}

fn job_for(name: &str, prompt: Prompt, keep_alive: KeepAlive) -> (Job, Heard) {
    let model = Library::new(&models()).find(name).unwrap();
    let options = serde_json::json!({"temperature": 0, "num_predict": 4});
    let options: Options = serde_json::from_value(options).unwrap();
    let settings = options.check().unwrap();
    let (events, receiver) = events();
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
    ask_of(engine, "tiny-q4_0", prompt)
}

fn ask_of(engine: &Engine, name: &str, prompt: Prompt) -> Event {
    let (job, mut events) = job_for(name, prompt, KeepAlive::Forever);
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
    let (engine, mut ended) = start(Setup::default());
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
        assert!(engine.status().is_empty(), "the model is unloaded");
        assert!(matches!(ask(&engine, hello()), Event::Done(_)));
    }
    assert!(ended.try_recv().is_err());
}

#[test]
fn two_panics_in_a_row_end_the_engine() {
    let (engine, ended) = start(Setup::default());
    assert!(matches!(ask(&engine, Prompt::Panic), Event::Failed(_)));
    assert!(matches!(ask(&engine, Prompt::Panic), Event::Failed(_)));
    assert_eq!(ended.blocking_recv(), Ok(false));
}

#[test]
fn a_client_that_has_left_costs_nothing() {
    let (engine, _ended) = start(Setup::default());
    let (mut endless, events) = job(hello(), KeepAlive::Forever);
    endless.settings.predict = None;
    endless.settings.context = usize::MAX;
    drop(events);
    engine.submit(endless).unwrap();
    assert!(matches!(ask(&engine, hello()), Event::Done(_)));
}

#[test]
fn an_unused_model_is_unloaded() {
    let (engine, _ended) = start(Setup::default());
    let (short, mut events) = job(hello(), KeepAlive::For(Duration::from_millis(1)));
    let mut status = engine.status.clone();
    engine.submit(short).unwrap();
    while let Event::Text(_) = events.blocking_recv().unwrap() {}
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let gone = async { status.wait_for(Vec::is_empty).await.map(|_| ()) };
    let waited = async { tokio::time::timeout(Duration::from_secs(60), gone).await };
    runtime.block_on(waited).expect("in time").unwrap();
}

#[test]
fn stopping_refuses_those_that_wait() {
    let (engine, ended) = start(Setup::default());
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
fn answer(events: &mut Heard) -> (String, Summary) {
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
    let (engine, _ended) = start(Setup::default());
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
    let (engine, _ended) = start(Setup::default());
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

/// A machine that has so much memory available, whatever is taken of it.
fn machine(available: u64) -> (Setup, tempfile::TempDir) {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir(root.path().join("proc")).unwrap();
    let text = format!("MemAvailable: {} kB\n", available / 1024);
    std::fs::write(root.path().join("proc/meminfo"), text).unwrap();
    let limits = Limits {
        configured: None,
        root: root.path().to_owned(),
    };
    let setup = Setup {
        limits,
        ..Setup::default()
    };
    (setup, root)
}

/// What a model needs with a full context, without the work.
fn bytes(name: &str) -> u64 {
    let model = Library::new(&models()).find(name).unwrap();
    let any = |_| Ok::<_, Failure>(());
    Loaded::load(&model, Keep::Halves, 4096, any)
        .unwrap()
        .bytes(4096)
}

/// What the work takes, as in `loaded`.
const WORK: u64 = 32 << 20;

fn names(engine: &Engine) -> Vec<String> {
    let all = engine.status().into_iter().map(|status| status.model.name);
    all.collect()
}

#[test]
fn models_are_kept_side_by_side_and_unloaded_by_name() {
    let (engine, _ended) = start(Setup::default());
    let all = ["tiny-q4_0", "tiny-f32", "tiny-f16"];
    for name in all {
        assert!(matches!(ask_of(&engine, name, hello()), Event::Done(_)));
    }
    assert_eq!(names(&engine), all.map(|name| format!("{name}:latest")));
    // Nothing is loaded again.
    let Event::Done(again) = ask_of(&engine, "tiny-q4_0", hello()) else {
        panic!("no answer")
    };
    assert!(again.load < Duration::from_millis(50), "{:?}", again.load);
    assert!(matches!(
        ask_of(&engine, "tiny-f32", Prompt::Unload),
        Event::Done(_)
    ));
    assert_eq!(names(&engine), ["tiny-q4_0:latest", "tiny-f16:latest"]);
}

#[test]
fn answers_of_two_models_are_those_given_alone() {
    let (engine, _ended) = start(Setup::default());
    let models = ["tiny-q4_0", "tiny-f32"];
    let begin = |name: &str| {
        let (mut job, events) = job_for(name, hello(), KeepAlive::Forever);
        job.settings.predict = Some(60);
        engine.submit(job).unwrap();
        events
    };
    let alone = models.map(|name| answer(&mut begin(name)));
    for name in models {
        assert!(matches!(
            ask_of(&engine, name, Prompt::Unload),
            Event::Done(_)
        ));
    }
    let mut together = models.map(begin);
    // Turn by turn: the second's first word does not wait for the first's last.
    assert!(matches!(together[1].blocking_recv(), Some(Event::Text(_))));
    let mut rest = together.iter_mut().map(answer);
    assert_eq!(rest.next().unwrap().0, alone[0].0);
    assert!(alone[1].0.ends_with(&rest.next().unwrap().0));
}

#[test]
fn the_model_used_the_longest_ago_makes_room() {
    let [first, second, third] = ["tiny-f16", "tiny-f32", "tiny-q8_0"];
    let (setup, _root) = machine(WORK + bytes(first) + bytes(third) + 4096);
    let (engine, _ended) = start(setup);
    for name in [first, second, first, third] {
        let done = ask_of(&engine, name, Prompt::Load);
        assert!(matches!(done, Event::Done(_)), "{name}: {done:?}");
    }
    assert_eq!(
        names(&engine),
        [first, third].map(|name| format!("{name}:latest"))
    );
}

#[test]
fn what_will_never_fit_is_refused_with_the_numbers_and_nothing_goes() {
    let (small, large) = ("tiny-q4_0", "tiny-q8_0");
    let there = (WORK + bytes(large) - 8192) / 1024 * 1024;
    let (setup, _root) = machine(there);
    let (engine, _ended) = start(setup);
    assert!(matches!(
        ask_of(&engine, small, Prompt::Load),
        Event::Done(_)
    ));
    for _ in 0..2 {
        let Event::Failed(failure) = ask_of(&engine, large, hello()) else {
            panic!("it was loaded")
        };
        let text = failure.text;
        assert!(text.contains("requires more system memory"), "{text}");
        assert!(text.contains(&format!("{there} bytes available")), "{text}");
        assert!(
            text.contains("tiny-q4_0:latest has 0.0 kB and will take"),
            "{text}"
        );
        assert_eq!(names(&engine), ["tiny-q4_0:latest"]);
    }
    assert!(matches!(ask_of(&engine, small, hello()), Event::Done(_)));
}

#[test]
fn a_model_waits_for_the_memory_of_one_that_answers() {
    let (first, second) = ("tiny-f32", "tiny-q8_0");
    let (setup, _root) = machine(WORK + bytes(second) + 4096);
    let (engine, _ended) = start(setup);
    let begin = |name: &str, predict| {
        let (mut job, events) = job_for(name, hello(), KeepAlive::Forever);
        job.settings.predict = predict;
        engine.submit(job).unwrap();
        events
    };
    // It pauses, because nobody reads it.
    let mut long = begin(first, None);
    let mut other = begin(second, Some(4));
    // One that comes later and would fit waits its turn.
    let mut late = begin(first, Some(4));
    assert!(matches!(long.blocking_recv(), Some(Event::Text(_))));
    assert_eq!(names(&engine), ["tiny-f32:latest"]);
    assert!(!answer(&mut long).0.is_empty());
    assert!(!answer(&mut other).0.is_empty());
    assert!(!answer(&mut late).0.is_empty());
}

#[test]
fn short_memory_unloads_the_model_idle_the_longest() {
    let (engine, _ended) = start(Setup::default());
    let mut status = engine.status.clone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    for name in ["tiny-q4_0", "tiny-f32", "tiny-q4_0"] {
        assert!(matches!(ask_of(&engine, name, hello()), Event::Done(_)));
    }
    for left in [1, 0] {
        engine.relieve();
        let gone = status.wait_for(|all| all.len() == left);
        let waited = async { tokio::time::timeout(Duration::from_secs(60), gone).await };
        let now = runtime.block_on(waited).expect("in time").unwrap();
        assert!(now.iter().all(|one| one.model.name == "tiny-q4_0:latest"));
    }
    // With nothing to give, nothing happens.
    engine.relieve();
    assert!(matches!(ask(&engine, hello()), Event::Done(_)));
}

#[test]
fn a_client_that_does_not_read_is_given_up_and_holds_nobody_up() {
    let (engine, _ended) = start(Setup {
        patience: Duration::from_secs(1),
        ..Setup::default()
    });
    // More of them than are answered at once.
    let mut deaf = Vec::new();
    for _ in 0..batch::MOST + 2 {
        let (mut job, events) = job_for("tiny-f32", hello(), KeepAlive::Forever);
        job.settings.predict = None;
        engine.submit(job).unwrap();
        deaf.push(events);
    }
    assert!(matches!(
        ask_of(&engine, "tiny-f32", hello()),
        Event::Done(_)
    ));
    // Waits until nobody is answered any more.
    assert!(matches!(
        ask_of(&engine, "tiny-f32", Prompt::Unload),
        Event::Done(_)
    ));
    for events in &mut deaf {
        let all: Vec<_> = std::iter::from_fn(|| events.blocking_recv()).collect();
        assert!((256..400).contains(&all.len()), "{}", all.len());
        let Some(Event::Failed(failure)) = all.last() else {
            panic!("no failure at the end")
        };
        assert_eq!(failure.refusal, Refusal::Gone);
        assert!(failure.text.contains("has not read"), "{}", failure.text);
    }
}

#[test]
fn weights_that_cannot_be_read_any_more_are_an_error_and_not_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cut.gguf");
    std::fs::copy(models().join("tiny-f32.gguf"), &path).unwrap();
    let model = Library::new(directory.path()).find("cut").unwrap();
    let (engine, _ended) = start(Setup::default());
    let submit = |prompt| {
        let (mut job, mut events) = job(prompt, KeepAlive::Forever);
        job.model = model.clone();
        engine.submit(job).unwrap();
        std::iter::from_fn(|| events.blocking_recv())
            .last()
            .unwrap()
    };
    // Loaded, but none of its matrices has been read.
    assert!(matches!(submit(Prompt::Load), Event::Done(_)));
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_len(20_000).unwrap();
    let Event::Failed(failure) = submit(hello()) else {
        panic!("it answered")
    };
    assert!(
        failure.text.contains("cannot read the model's weights"),
        "{failure:?}"
    );
    assert!(names(&engine).is_empty(), "it is not asked again");
    assert!(matches!(ask(&engine, hello()), Event::Done(_)));
    // With its file whole again, so is the model.
    std::fs::copy(models().join("tiny-f32.gguf"), &path).unwrap();
    assert!(matches!(submit(hello()), Event::Done(_)));
}
