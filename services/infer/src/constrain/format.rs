//! The formats of strings that are enforced, as patterns. Each matches less than its standard
//! allows, never more: a day up to 28 is in every month.

/// The pattern of a format.
pub(super) fn pattern(format: &str) -> Option<&'static str> {
    let found = FORMATS.iter().find(|(name, _)| *name == format);
    found.map(|(_, pattern)| *pattern)
}

/// Their names, for an error.
pub(super) fn names() -> String {
    let names: Vec<_> = FORMATS.iter().map(|(name, _)| *name).collect();
    names.join(", ")
}

#[rustfmt::skip]
const FORMATS: [(&str, &str); 9] = [
    ("date", "^[12][0-9]{3}-(((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01]))|((0[469]|11)-(0[1-9]|[12][0-9]|30))|(02-(0[1-9]|1[0-9]|2[0-8])))$"),
    ("time", "^([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?(Z|[+-](0[0-9]|1[0-3]):[0-5][0-9])$"),
    ("date-time", "^[12][0-9]{3}-(((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01]))|((0[469]|11)-(0[1-9]|[12][0-9]|30))|(02-(0[1-9]|1[0-9]|2[0-8])))T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?(Z|[+-](0[0-9]|1[0-3]):[0-5][0-9])$"),
    ("duration", "^P([1-9][0-9]{0,3}W|[1-9][0-9]{0,3}D(T[1-9][0-9]{0,3}H)?|T[1-9][0-9]{0,3}[HMS])$"),
    ("uuid", "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"),
    ("email", "^[0-9A-Za-z_+-]{1,32}(\\.[0-9A-Za-z_+-]{1,16})?@[0-9A-Za-z]{1,40}(\\.[0-9A-Za-z]{1,20}){1,2}$"),
    ("hostname", "^[0-9A-Za-z]{1,40}(\\.[0-9A-Za-z]{1,20}){0,3}$"),
    ("ipv4", "^((25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])\\.){3}(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])$"),
    ("uri", "^https?://[0-9A-Za-z]{1,40}(\\.[0-9A-Za-z]{1,20}){0,3}(:[1-9][0-9]{0,3})?(/[0-9A-Za-z_.~-]*){0,16}(\\?[0-9A-Za-z_.~=&-]*)?(#[0-9A-Za-z_.~-]*)?$"),
];
