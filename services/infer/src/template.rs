//! Chat templates: the Jinja text in a model's file that makes one prompt of many messages.

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, Value, context};

/// Steps that a template may take: the largest real ones take some thousand for a message. A
/// template comes with a file from anywhere; it must not be able to run for ever.
const FUEL: u64 = 20_000_000;

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// `system`, `user`, `assistant` or `tool`.
    pub role: String,
    /// What was said.
    pub content: String,
}

/// A model's chat template.
pub struct Template {
    environment: Environment<'static>,
    begin: String,
    end: String,
}

impl Template {
    /// Compiles a template. `marks` are the texts of the tokens that begin and end a text.
    ///
    /// # Errors
    /// When it is not valid Jinja.
    pub fn compile(source: &str, marks: (&str, &str)) -> Result<Self, Error> {
        let mut environment = Environment::new();
        // What Hugging Face's renderer sets, for which these templates are written.
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()?;
        environment.set_syntax(syntax);
        environment.set_fuel(Some(FUEL));
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", raise);
        environment.add_function("strftime_now", |format: &str| {
            crate::clock::strftime(format)
        });
        environment.add_template_owned("chat", source.to_owned())?;
        Ok(Self {
            environment,
            begin: marks.0.to_owned(),
            end: marks.1.to_owned(),
        })
    }

    /// The prompt that asks for an answer to `messages`.
    ///
    /// # Errors
    /// When the template refuses the messages, or fails.
    pub fn render(&self, messages: &[Message]) -> Result<String, Error> {
        let message = |message: &Message| {
            context! { role => message.role.as_str(), content => message.content.as_str() }
        };
        self.environment.get_template("chat")?.render(context! {
            messages => messages.iter().map(message).collect::<Value>(),
            add_generation_prompt => true,
            bos_token => self.begin.as_str(),
            eos_token => self.end.as_str(),
        })
    }
}

fn raise(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

/// One line that says what went wrong in a template, without its source.
#[must_use]
pub fn describe(error: &Error) -> String {
    let detail = error
        .detail()
        .map_or_else(|| error.kind().to_string(), str::to_owned);
    match error.line() {
        Some(line) => format!("{detail} (line {line} of the model's chat template)"),
        None => detail,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(role: &str, content: &str) -> Message {
        Message {
            role: role.to_owned(),
            content: content.to_owned(),
        }
    }

    #[test]
    fn renders_blocks_as_huggingface_does() {
        let source = "{{ bos_token }}\n{%- for message in messages %}\n    \
                      {%- if message['role'].startswith('u') %}\n[{{ message.content | trim }}]\n    \
                      {%- endif %}\n{%- endfor %}\n{%- if add_generation_prompt %}>{% endif %}\n";
        let template = Template::compile(source, ("<s>", "</s>")).unwrap();
        let prompt = template
            .render(&[said("system", "x"), said("user", " hi ")])
            .unwrap();
        assert_eq!(prompt, "<s>[hi]>");
    }

    #[test]
    fn a_template_can_refuse() {
        let source =
            "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}";
        let template = Template::compile(source, ("", "")).unwrap();
        let error = template.render(&[said("system", "x")]).unwrap_err();
        assert_eq!(
            describe(&error),
            "no system (line 1 of the model's chat template)"
        );
    }

    #[test]
    fn a_template_cannot_run_for_ever() {
        let source = "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}\
                      x{% endfor %}{% endfor %}{% endfor %}";
        let template = Template::compile(source, ("", "")).unwrap();
        let error = template.render(&[]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutOfFuel);
    }
}
