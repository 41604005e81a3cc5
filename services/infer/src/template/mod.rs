//! Chat templates: the Jinja text in a model's file that makes one prompt of many messages.

mod json;
mod python;

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, Value, context};
use serde_json::Value as Json;

/// What a template may use for itself. It comes with a file from anywhere: it must not be able to run
/// for ever, nor to fill the memory. A step costs 1, and so do 64 bytes that are made: these are 128 MB.
const FUEL: u64 = 2_000_000;
/// What it may use beyond that for each message, call and tool: the largest real ones take some thousand.
const FUEL_FOR_EACH: u64 = 20_000;

/// One message of a conversation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// `system`, `user`, `assistant` or `tool`.
    pub role: String,
    /// What was said.
    pub content: String,
    /// What the assistant said to itself before.
    pub thinking: String,
    /// What the assistant called: objects with `type`, `id` and `function`, whose arguments are an
    /// object.
    pub tool_calls: Vec<Json>,
    /// Which tool's answer it is.
    pub tool_name: String,
    /// Which call's answer it is.
    pub tool_call_id: String,
}

impl Message {
    /// A message that is text alone.
    #[must_use]
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self {
            role: role.into(),
            content: content.into(),
            ..Self::default()
        }
    }

    /// What a template sees of it: what is empty is not there, as templates ask.
    fn value(&self) -> Value {
        let mut message = serde_json::Map::new();
        message.insert("role".to_owned(), self.role.as_str().into());
        message.insert("content".to_owned(), self.content.as_str().into());
        for (key, text) in [
            ("reasoning_content", &self.thinking),
            ("name", &self.tool_name),
            ("tool_call_id", &self.tool_call_id),
        ] {
            if !text.is_empty() {
                message.insert(key.to_owned(), text.as_str().into());
            }
        }
        if !self.tool_calls.is_empty() {
            let calls = self.tool_calls.clone();
            message.insert("tool_calls".to_owned(), calls.into());
        }
        value(&Json::Object(message))
    }
}

/// What is to be answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conversation {
    /// What has been said.
    pub messages: Vec<Message>,
    /// The tools that may be called, as OpenAI writes them.
    pub tools: Vec<Json>,
    /// Whether to think first, where the model leaves the choice; None leaves it to the template.
    pub think: Option<bool>,
}

impl From<Vec<Message>> for Conversation {
    fn from(messages: Vec<Message>) -> Self {
        Self {
            messages,
            ..Self::default()
        }
    }
}

impl Conversation {
    /// What a template may use to write it down.
    fn fuel(&self) -> u64 {
        let each = |message: &Message| {
            let parts = 1 + message.tool_calls.len() as u64;
            // A text is copied a few times, and may be written as JSON, which costs a quarter.
            let text = message.content.len() + message.thinking.len();
            parts * FUEL_FOR_EACH + text as u64
        };
        let tools = self.tools.len() as u64 * FUEL_FOR_EACH;
        FUEL + tools + self.messages.iter().map(each).sum::<u64>()
    }
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
        environment.set_unknown_method_callback(python::method);
        environment.add_test("iterable", python::is_iterable);
        environment.add_function("raise_exception", raise);
        environment.add_function("strftime_now", |format: &str| {
            crate::clock::strftime(format)
        });
        environment.add_filter("tojson", json::tojson);
        environment.add_template_owned("chat", without_marks(source))?;
        Ok(Self {
            environment,
            begin: marks.0.to_owned(),
            end: marks.1.to_owned(),
        })
    }

    /// The prompt that asks for an answer to a conversation.
    ///
    /// # Errors
    /// When the template refuses the messages, or fails.
    pub fn render(&self, conversation: &Conversation) -> Result<String, Error> {
        let messages = conversation.messages.iter().map(Message::value);
        let tools = match conversation.tools.is_empty() {
            true => Value::from(()),
            false => conversation.tools.iter().map(value).collect(),
        };
        let known = context! {
            messages => messages.collect::<Value>(),
            tools => tools,
            add_generation_prompt => true,
            bos_token => self.begin.as_str(),
            eos_token => self.end.as_str(),
        };
        let all = match conversation.think {
            Some(think) => context! { enable_thinking => think, ..known },
            None => known,
        };
        let mut environment = self.environment.clone();
        environment.set_fuel(Some(conversation.fuel()));
        environment.get_template("chat")?.render(all)
    }
}

/// `{% generation %}` marks what the assistant said for those who train on it: nothing to render.
fn without_marks(source: &str) -> String {
    let mut text = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        // The two marks of a tag share no sign: `{%}` is none.
        let Some(length) = rest[start + 2..].find("%}") else {
            break;
        };
        let tag = &rest[start..start + length + 4];
        let inner = tag[2..tag.len() - 2].trim_matches(|c| c == '-' || c == '+');
        text.push_str(&rest[..start]);
        match inner.trim() {
            "generation" => text.push_str(&tag.replacen("generation", "if true", 1)),
            "endgeneration" => text.push_str(&tag.replacen("endgeneration", "endif", 1)),
            _ => text.push_str(tag),
        }
        rest = &rest[start + tag.len()..];
    }
    text.push_str(rest);
    text
}

/// JSON as templates have it.
fn value(json: &Json) -> Value {
    match json {
        Json::Null => Value::from(()),
        Json::Bool(truth) => (*truth).into(),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => number.into(),
            (_, Some(number)) => number.into(),
            _ => number.as_f64().unwrap_or_default().into(),
        },
        Json::String(text) => text.as_str().into(),
        Json::Array(values) => values.iter().map(value).collect(),
        Json::Object(object) => {
            Value::from_pairs(object.iter().map(|(key, one)| (key.as_str(), value(one))))
        }
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

    fn said(messages: &[(&str, &str)]) -> Conversation {
        let messages = messages.iter();
        let messages: Vec<_> = messages.map(|&(r, text)| Message::new(r, text)).collect();
        messages.into()
    }

    #[test]
    fn renders_blocks_as_huggingface_does() {
        let source = "{{ bos_token }}\n{%- for message in messages %}\n    \
                      {%- if message['role'].startswith('u') %}\n[{{ message.content | trim }}]\n    \
                      {%- endif %}\n{%- endfor %}\n{%- if add_generation_prompt %}>{% endif %}\n";
        let template = Template::compile(source, ("<s>", "</s>")).unwrap();
        let prompt = template
            .render(&said(&[("system", "x"), ("user", " hi ")]))
            .unwrap();
        assert_eq!(prompt, "<s>[hi]>");
    }

    #[test]
    fn tools_and_their_calls_reach_the_template() {
        let source = "{% for tool in tools %}{{ tool | tojson }}{% endfor %}\
                      {% for m in messages %}{% for c in m.tool_calls %}{{ c.function.name }}\
                      ({{ c.function.arguments | tojson }}){% endfor %}{{ m.name }}{% endfor %}\
                      {% if enable_thinking is false %}<think></think>{% endif %}";
        let template = Template::compile(source, ("", "")).unwrap();
        let call = serde_json::json!({"function": {"name": "f", "arguments": {"a": 2, "z": 1.5}}});
        let conversation = Conversation {
            messages: vec![
                Message {
                    tool_calls: vec![call],
                    ..Message::new("assistant", "")
                },
                Message {
                    tool_name: "g".to_owned(),
                    ..Message::new("tool", "3")
                },
            ],
            tools: vec![serde_json::json!({"type": "function", "function": {"name": "f"}})],
            think: Some(false),
        };
        assert_eq!(
            template.render(&conversation).unwrap().replace(' ', ""),
            r#"{"type":"function","function":{"name":"f"}}f({"a":2,"z":1.5})g<think></think>"#
        );
    }

    #[test]
    fn a_template_can_refuse() {
        let source =
            "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}";
        let template = Template::compile(source, ("", "")).unwrap();
        let error = template.render(&said(&[("system", "x")])).unwrap_err();
        assert_eq!(
            describe(&error),
            "no system (line 1 of the model's chat template)"
        );
    }

    #[test]
    fn a_mark_that_is_no_tag_stays() {
        // A tag's two marks share no sign.
        for (source, expected) in [
            ("a{% generation %}b{% endgeneration %}", Some("ab")),
            ("a{%}", None),
            ("a{%}%}", None),
        ] {
            let template = Template::compile(source, ("", ""));
            let text = template.map(|template| template.render(&said(&[])).unwrap());
            assert_eq!(text.ok().as_deref(), expected, "{source}");
        }
    }

    #[test]
    fn a_template_cannot_fill_the_memory() {
        for source in [
            "{% set n = namespace(a='x') %}{% for i in range(40) %}{% set n.a = n.a ~ n.a %}{% endfor %}",
            "{{ '%1000000000d' | format(3) }}",
        ] {
            let template = Template::compile(source, ("", "")).unwrap();
            let error = template.render(&said(&[])).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::OutOfFuel, "{source}");
        }
    }

    #[test]
    fn a_template_cannot_run_for_ever() {
        let source = "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}\
                      x{% endfor %}{% endfor %}{% endfor %}";
        let template = Template::compile(source, ("", "")).unwrap();
        let error = template.render(&said(&[])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OutOfFuel);
    }
}
