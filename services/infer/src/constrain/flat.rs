//! A schema without combinations: references, `allOf`, `anyOf` and `oneOf` are resolved into
//! alternatives, each of which is one set of plain conditions.

use super::Error;
use super::document::Document;
use super::grammar::shorten;
use super::number::{Bound, Decimal, MAX_DIGITS, Range};
use super::text::MOST;

/// Deepest nesting of combinations and references without an array or object in between.
const MAX_NESTING: usize = 48;
/// Most alternatives of one place.
const MAX_ALTERNATIVES: usize = 512;
/// Largest `minLength`, `minItems`, `maxItems`: counts that end in states or in waiting.
const MAX_COUNT: u64 = 10_000;

/// The types, as bits.
pub(super) const NULL: u8 = 1;
pub(super) const BOOLEAN: u8 = 2;
pub(super) const INTEGER: u8 = 4;
pub(super) const FRACTION: u8 = 8;
pub(super) const STRING: u8 = 16;
pub(super) const ARRAY: u8 = 32;
pub(super) const OBJECT: u8 = 64;
const ANY: u8 = 127;

/// Keywords that say nothing about which values are valid.
const SILENT: [&str; 21] = [
    "$schema",
    "$id",
    "$comment",
    "$defs",
    "definitions",
    "title",
    "description",
    "default",
    "example",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
    "contentEncoding",
    "contentMediaType",
    "contentSchema",
    "discriminator",
    "externalDocs",
    "xml",
    "markdownDescription",
    "propertyOrdering",
];

/// A schema somewhere in the document.
#[derive(Debug, Clone)]
pub(super) struct Part<'a> {
    pub(super) value: &'a Document,
    pub(super) path: String,
}

impl<'a> Part<'a> {
    fn at(&self, value: &'a Document, key: &str) -> Self {
        let key = key.replace('~', "~0").replace('/', "~1");
        Self {
            value,
            path: format!("{}/{key}", self.path),
        }
    }
}

/// Schemas that must all be satisfied; none of them for anything.
pub(super) type All<'a> = Vec<Part<'a>>;

/// Plain conditions. Those of a type matter only to values of that type.
#[derive(Debug, Clone)]
pub(super) struct Flat<'a> {
    /// Where its last part stands.
    pub(super) path: String,
    pub(super) types: u8,
    /// Types that conditions speak of.
    spoken: u8,
    pub(super) values: Option<Vec<&'a Document>>,
    pub(super) range: Range,
    pub(super) least_length: u32,
    pub(super) most_length: u32,
    pub(super) patterns: Vec<&'a str>,
    pub(super) formats: Vec<&'a str>,
    pub(super) first_items: Vec<All<'a>>,
    pub(super) items: Option<All<'a>>,
    pub(super) least_items: u32,
    pub(super) most_items: u32,
    pub(super) fields: Vec<(&'a str, All<'a>)>,
    pub(super) required: Vec<&'a str>,
    pub(super) others: Option<All<'a>>,
}

impl<'a> Flat<'a> {
    fn any(path: &str) -> Self {
        Self {
            path: path.to_owned(),
            types: ANY,
            spoken: 0,
            values: None,
            range: Range::default(),
            least_length: 0,
            most_length: MOST,
            patterns: Vec::new(),
            formats: Vec::new(),
            first_items: Vec::new(),
            items: None,
            least_items: 0,
            most_items: u32::MAX,
            fields: Vec::new(),
            required: Vec::new(),
            others: None,
        }
    }

    /// The types to write. A schema that speaks of fields means an object, although JSON Schema
    /// would let any number pass.
    pub(super) fn meant(&self) -> u8 {
        match self.types == ANY && self.spoken != 0 && self.values.is_none() {
            true => self.spoken,
            false => self.types,
        }
    }

    /// Only these values, of those allowed so far.
    fn allow(&mut self, mut values: Vec<&'a Document>) {
        if let Some(before) = &self.values {
            values.retain(|value| before.iter().any(|known| same(known, value)));
        }
        self.values = Some(values);
    }

    /// Whether conditions speak of arrays or objects.
    pub(super) fn speaks_of_containers(&self) -> bool {
        self.spoken & (ARRAY | OBJECT) != 0
    }

    /// What satisfies both; None when nothing can.
    fn and(&self, other: &Self) -> Option<Self> {
        let types = self.types & other.types;
        if types == 0 {
            return None;
        }
        let values = match (&self.values, &other.values) {
            (Some(these), Some(those)) => {
                let both = these.iter().filter(|v| those.iter().any(|w| same(v, w)));
                Some(both.copied().collect())
            }
            (these, those) => these.clone().or_else(|| those.clone()),
        };
        let mut range = self.range.clone();
        range.and(&other.range);
        let longest = self.first_items.len().max(other.first_items.len());
        let first_items = (0..longest)
            .map(|place| join(self.item(place), other.item(place)))
            .collect();
        Some(Self {
            path: other.path.clone(),
            types,
            spoken: self.spoken | other.spoken,
            values,
            range,
            least_length: self.least_length.max(other.least_length),
            most_length: self.most_length.min(other.most_length),
            patterns: join(Some(&self.patterns), Some(&other.patterns)),
            formats: join(Some(&self.formats), Some(&other.formats)),
            first_items,
            items: both(&self.items, &other.items),
            least_items: self.least_items.max(other.least_items),
            most_items: self.most_items.min(other.most_items),
            fields: self.both_fields(other),
            required: join(Some(&self.required), Some(&other.required)),
            others: both(&self.others, &other.others),
        })
    }

    fn item(&self, place: usize) -> Option<&All<'a>> {
        self.first_items.get(place).or(self.items.as_ref())
    }

    fn field(&self, name: &str) -> Option<&All<'a>> {
        let field = self.fields.iter().find(|field| field.0 == name);
        field.map(|field| &field.1).or(self.others.as_ref())
    }

    /// A field that one side does not name has to be allowed by its `additionalProperties`.
    fn both_fields(&self, other: &Self) -> Vec<(&'a str, All<'a>)> {
        let mut fields: Vec<_> = self
            .fields
            .iter()
            .map(|(name, all)| (*name, join(Some(all), other.field(name))))
            .collect();
        let named = |name: &&str| self.fields.iter().any(|field| field.0 == *name);
        for (name, all) in other.fields.iter().filter(|field| !named(&field.0)) {
            fields.push((*name, join(self.field(name), Some(all))));
        }
        fields
    }
}

fn join<T: Clone>(these: Option<&Vec<T>>, those: Option<&Vec<T>>) -> Vec<T> {
    let all = these.into_iter().chain(those);
    all.flatten().cloned().collect()
}

fn both<'a>(these: &Option<All<'a>>, those: &Option<All<'a>>) -> Option<All<'a>> {
    match (these, those) {
        (None, None) => None,
        (these, those) => Some(join(these.as_ref(), those.as_ref())),
    }
}

/// Whether two values are equal as JSON Schema has it: 1 is 1.0.
fn same(a: &Document, b: &Document) -> bool {
    match (a, b) {
        (Document::Number(a), Document::Number(b)) => {
            Decimal::new(a).compare(&Decimal::new(b)) == std::cmp::Ordering::Equal
        }
        (a, b) => a == b,
    }
}

/// Reads schemas of one document.
pub(super) struct Reader<'a> {
    pub(super) document: &'a Document,
}

impl<'a> Reader<'a> {
    /// The alternatives of what satisfies all these schemas.
    pub(super) fn alternatives(&self, all: &All<'a>) -> Result<Vec<Flat<'a>>, Error> {
        let path = all.first().map_or("#", |part| part.path.as_str());
        let mut flats = vec![Flat::any(path)];
        for part in all {
            flats = cross(&flats, &self.flatten(part, 0)?, &part.path)?;
        }
        Ok(flats)
    }

    fn flatten(&self, part: &Part<'a>, nesting: usize) -> Result<Vec<Flat<'a>>, Error> {
        if nesting > MAX_NESTING {
            return Err(Error::Endless {
                path: part.path.clone(),
                allowed: MAX_NESTING,
            });
        }
        let object = match part.value {
            Document::Bool(true) => return Ok(vec![Flat::any(&part.path)]),
            Document::Bool(false) => return Ok(Vec::new()),
            Document::Object(object) => object,
            other => return Err(wrong(part, "the schema", other, "an object, true, false")),
        };
        let mut flats = vec![plain(part, object)?];
        if let Some(reference) = part.value.get("$ref") {
            let target = self.resolve(part, reference)?;
            flats = cross(&flats, &self.flatten(&target, nesting + 1)?, &part.path)?;
        }
        for key in ["allOf", "anyOf", "oneOf"] {
            let Some(list) = part.value.get(key) else {
                continue;
            };
            let Some(parts) = list.as_array().filter(|list| !list.is_empty()) else {
                return Err(wrong(part, key, list, "a list of schemas"));
            };
            let mut choice = Vec::new();
            for (place, value) in parts.iter().enumerate() {
                let below = part.at(list, key).at(value, &place.to_string());
                let alternatives = self.flatten(&below, nesting + 1)?;
                if key == "allOf" {
                    flats = cross(&flats, &alternatives, &part.path)?;
                } else {
                    choice.extend(alternatives);
                }
            }
            if key != "allOf" {
                flats = cross(&flats, &choice, &part.path)?;
            }
        }
        Ok(flats)
    }

    fn resolve(&self, part: &Part<'a>, reference: &'a Document) -> Result<Part<'a>, Error> {
        let allowed = "a pointer into this schema, such as #/$defs/name";
        let error = || wrong(part, "$ref", reference, allowed);
        let text = reference.as_str().ok_or_else(error)?;
        let pointer = text.strip_prefix('#').ok_or_else(error)?;
        let value = self.document.pointer(pointer).ok_or_else(error)?;
        Ok(Part {
            value,
            path: text.to_owned(),
        })
    }
}

/// Each of these with each of those.
fn cross<'a>(these: &[Flat<'a>], those: &[Flat<'a>], path: &str) -> Result<Vec<Flat<'a>>, Error> {
    if these.len() * those.len() > MAX_ALTERNATIVES {
        return Err(Error::TooLarge {
            path: path.to_owned(),
            what: "alternatives",
            allowed: MAX_ALTERNATIVES,
        });
    }
    let pairs = these.iter().flat_map(|a| those.iter().map(move |b| (a, b)));
    Ok(pairs.filter_map(|(a, b)| a.and(b)).collect())
}

fn wrong(part: &Part<'_>, keyword: &str, found: &Document, allowed: &str) -> Error {
    Error::Value {
        path: part.path.clone(),
        keyword: keyword.to_owned(),
        found: shorten(found),
        allowed: allowed.to_owned(),
    }
}

/// The conditions of a schema's own keywords.
fn plain<'a>(part: &Part<'a>, object: &'a [(String, Document)]) -> Result<Flat<'a>, Error> {
    let mut flat = Flat::any(&part.path);
    for (key, value) in object {
        let count = |most: u64| count(part, key, value, most);
        match key.as_str() {
            "type" => flat.types = types(part, value)?,
            "enum" => {
                let list = value.as_array().filter(|list| !list.is_empty());
                let list = list.ok_or_else(|| wrong(part, key, value, "a list of values"))?;
                flat.allow(list.iter().collect());
            }
            "const" => flat.allow(vec![value]),
            "minimum" | "exclusiveMinimum" | "maximum" | "exclusiveMaximum" => {
                flat.spoken |= INTEGER | FRACTION;
                let bound = bound(part, key, value, key.starts_with('e'))?;
                match key.as_str() {
                    "minimum" | "exclusiveMinimum" => flat.range.at_least(bound),
                    _ => flat.range.at_most(bound),
                }
            }
            "minLength" | "maxLength" | "pattern" | "format" => {
                flat.spoken |= STRING;
                let text = || {
                    let text = value.as_str();
                    text.ok_or_else(|| wrong(part, key, value, "a text"))
                };
                match key.as_str() {
                    "minLength" => flat.least_length = count(MAX_COUNT)?,
                    // A bound beyond what is counted bounds nothing that a model can write.
                    "maxLength" => flat.most_length = count(u64::MAX)?.min(MOST),
                    "pattern" => flat.patterns.push(text()?),
                    _ => match number_format(text()?) {
                        Some(range) => flat.range.and(&range),
                        None => flat.formats.push(text()?),
                    },
                }
            }
            "items" => {
                flat.spoken |= ARRAY;
                if value.as_array().is_some() {
                    let allowed = "one schema; prefixItems takes a list";
                    return Err(wrong(part, key, value, allowed));
                }
                flat.items = Some(vec![part.at(value, key)]);
            }
            "prefixItems" => {
                flat.spoken |= ARRAY;
                let list = value.as_array();
                let list = list.ok_or_else(|| wrong(part, key, value, "a list of schemas"))?;
                let below = part.at(value, key);
                let items = list.iter().enumerate();
                flat.first_items = items
                    .map(|(place, value)| vec![below.at(value, &place.to_string())])
                    .collect();
            }
            "minItems" | "maxItems" => {
                flat.spoken |= ARRAY;
                match key.as_str() {
                    "minItems" => flat.least_items = count(MAX_COUNT)?,
                    _ => flat.most_items = count(MAX_COUNT)?,
                }
            }
            "properties" => {
                flat.spoken |= OBJECT;
                let fields = value.as_object();
                let fields = fields.ok_or_else(|| wrong(part, key, value, "an object"))?;
                let below = part.at(value, key);
                flat.fields = fields
                    .iter()
                    .map(|(name, value)| (name.as_str(), vec![below.at(value, name)]))
                    .collect();
            }
            "required" => {
                flat.spoken |= OBJECT;
                let names = value
                    .as_array()
                    .map(|list| list.iter().map(Document::as_str));
                let names = names.and_then(Iterator::collect::<Option<Vec<_>>>);
                flat.required = names.ok_or_else(|| wrong(part, key, value, "a list of names"))?;
            }
            "additionalProperties" => {
                flat.spoken |= OBJECT;
                flat.others = Some(vec![part.at(value, key)]);
            }
            "$ref" | "allOf" | "anyOf" | "oneOf" => {}
            // What holds for every value says nothing.
            "uniqueItems" if *value == Document::Bool(false) => {}
            "minProperties" | "minContains" if whole(value) == Some(0) => {}
            silent if SILENT.contains(&silent) || silent.starts_with("x-") => {}
            other => {
                return Err(Error::Unsupported {
                    path: part.path.clone(),
                    keyword: other.to_owned(),
                });
            }
        }
    }
    Ok(flat)
}

/// The range of a format of numbers, as OpenAPI has them.
fn number_format(name: &str) -> Option<Range> {
    let bound = |value: i64| {
        Some(Bound {
            value: Decimal::new(&value.into()),
            exclusive: false,
        })
    };
    let (least, most) = match name {
        "int8" => (bound(i8::MIN.into()), bound(i8::MAX.into())),
        "int16" => (bound(i16::MIN.into()), bound(i16::MAX.into())),
        "int32" => (bound(i32::MIN.into()), bound(i32::MAX.into())),
        "uint8" => (bound(0), bound(u8::MAX.into())),
        "uint16" => (bound(0), bound(u16::MAX.into())),
        "uint32" => (bound(0), bound(u32::MAX.into())),
        "uint" | "uint64" => (bound(0), None),
        // What is written without a bound has 15 digits.
        "int64" | "float" | "double" => (None, None),
        _ => return None,
    };
    Some(Range { least, most })
}

fn types(part: &Part<'_>, value: &Document) -> Result<u8, Error> {
    let one = |name: &Document| match name.as_str()? {
        "null" => Some(NULL),
        "boolean" => Some(BOOLEAN),
        "integer" => Some(INTEGER),
        "number" => Some(INTEGER | FRACTION),
        "string" => Some(STRING),
        "array" => Some(ARRAY),
        "object" => Some(OBJECT),
        _ => None,
    };
    let types = match value {
        Document::Array(names) if !names.is_empty() => names
            .iter()
            .try_fold(0, |types, name| one(name).map(|one| types | one)),
        name => one(name),
    };
    let allowed = "one or several of null, boolean, integer, number, string, array, object";
    types.ok_or_else(|| wrong(part, "type", value, allowed))
}

fn count(part: &Part<'_>, key: &str, value: &Document, most: u64) -> Result<u32, Error> {
    match whole(value) {
        Some(found) if found <= most => Ok(u32::try_from(found).unwrap_or(u32::MAX)),
        _ if most == u64::MAX => Err(wrong(part, key, value, "a whole number from 0")),
        _ => Err(wrong(part, key, value, "a whole number from 0 to 10000")),
    }
}

fn whole(value: &Document) -> Option<u64> {
    let number = value.as_number()?;
    let whole = |number: &f64| number.fract() == 0.0 && *number >= 0.0;
    let float = number.as_f64().filter(whole);
    number.as_u64().or(float.map(|number| number as u64))
}

fn bound(part: &Part<'_>, key: &str, value: &Document, exclusive: bool) -> Result<Bound, Error> {
    let Document::Number(number) = value else {
        return Err(wrong(part, key, value, "a number"));
    };
    let value_of = Decimal::new(number);
    match value_of.digits() > MAX_DIGITS {
        true => Err(wrong(part, key, value, "a number of at most 30 digits")),
        false => Ok(Bound {
            value: value_of,
            exclusive,
        }),
    }
}
