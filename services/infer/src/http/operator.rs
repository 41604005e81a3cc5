//! The operator's answers, in the shape of any other model's.

use std::sync::Arc;
use std::time::Instant;

use super::Server;
use super::error::Refused;
use super::models::blocking;
use crate::engine::{Event, Failure, Heard, Prompt, Summary, events};
use crate::library::Model;

/// Whether a model is the operator. A file that cannot be read is not: the engine says best why.
pub(super) async fn is_meant(server: &Arc<Server>, model: &Model) -> Result<bool, Refused> {
    let (server, model) = (Arc::clone(server), model.clone());
    blocking(move || {
        let details = server.library.details(&model);
        Ok(details.is_ok_and(|details| details.is_operator))
    })
    .await
}

/// One line of JSON: the call that the last thing said asks for.
pub(super) async fn answer(
    server: &Arc<Server>,
    model: Model,
    prompt: Prompt,
) -> Result<Heard, Refused> {
    let (events, receiver) = events();
    let text = match prompt {
        Prompt::Messages(conversation) => {
            let mut said = conversation.messages.into_iter().rev();
            said.find(|message| message.role == "user")
                .map(|message| message.content)
        }
        Prompt::Question { text, .. } | Prompt::Raw(text) => Some(text),
        Prompt::Embed(_) => {
            let text = format!("{:?} does not support embeddings", model.name);
            return Err(Refused::bad(text));
        }
        _ => None,
    };
    // Nobody can have closed the channel yet: its other end is here.
    match text {
        None => {
            let _ = events.send(Event::Done(Summary::empty("load")));
        }
        Some(text) => {
            let started = Instant::now();
            let server = Arc::clone(server);
            let call = blocking(move || {
                let call = server.operator.read(&model, &text);
                call.map_err(|error| Failure::internal(&error).into())
            })
            .await?;
            let _ = events.send(Event::Text(call.answer().to_string()));
            let took = started.elapsed();
            let _ = events.send(Event::Done(Summary {
                total: took,
                answer: took,
                ..Summary::empty("stop")
            }));
        }
    }
    Ok(receiver)
}
