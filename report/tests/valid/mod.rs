//! Whether a value is as a JSON Schema says: the part of draft 7 that Mirrorball's schemas use, but for
//! the patterns of texts, which only the reader tells.
//!
//! It is stricter in one thing: what a schema does not describe is a fault, unless it says that
//! there may be more.

use serde_json::Value;

/// Everything that is not as the schema says.
pub fn faults(schema: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    look(schema, schema, value, "$", &mut found);
    found
}

fn look(root: &Value, schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.strip_prefix("#/definitions/").expect("of this file");
        let defined = &root["definitions"][name];
        assert!(defined.is_object(), "{name} is not defined");
        return look(root, defined, value, path, found);
    }
    let fits = |schema: &&Value| {
        let mut inner = Vec::new();
        look(root, schema, value, path, &mut inner);
        inner.is_empty()
    };
    for schema in schema["allOf"].as_array().into_iter().flatten() {
        look(root, schema, value, path, found);
    }
    // Forms that are told apart by what is required say nothing else; the rest stands beside them.
    let forms = schema["anyOf"].as_array().or(schema["oneOf"].as_array());
    if let Some(forms) =
        forms.filter(|forms| forms.iter().all(|form| form.get("required").is_none()))
    {
        let fitting = forms.iter().filter(fits).count();
        if fitting == 0 || (fitting > 1 && schema["oneOf"].is_array()) {
            found.push(format!("{path}: {fitting} of the forms fit {value}"));
        }
        return;
    }
    if let Some(constant) = schema.get("const") {
        if constant != value {
            found.push(format!("{path}: {value} is not {constant}"));
        }
        return;
    }
    if let Some(words) = schema["enum"].as_array() {
        if !words.contains(value) {
            found.push(format!("{path}: {value} is none of {words:?}"));
        }
        return;
    }
    let kinds: Vec<&str> = match &schema["type"] {
        Value::String(kind) => vec![kind],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        // What refers elsewhere, or takes anything.
        Value::Null => return,
        other => panic!("{path}: a schema without a type: {other}"),
    };
    if !kinds.iter().any(|kind| is(kind, value)) {
        found.push(format!("{path}: {value} is no {kinds:?}"));
    }
    let below = |end: &str| schema[end].as_f64().zip(value.as_f64());
    let small = below("minimum").is_some_and(|(least, value)| value < least);
    let large = below("maximum").is_some_and(|(most, value)| value > most);
    if small || large {
        found.push(format!("{path}: {value} is out of range"));
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        look(
            root,
            &schema["items"],
            item,
            &format!("{path}[{index}]"),
            found,
        );
    }
    fields(root, schema, value, path, found);
}

fn fields(root: &Value, schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    let Some(fields) = value.as_object() else {
        return;
    };
    let one_of = schema["oneOf"].as_array().into_iter().flatten();
    let one_of = one_of.filter_map(|form| form["required"][0].as_str());
    let one_of: Vec<&str> = one_of.collect();
    let given = one_of.iter().filter(|name| fields.contains_key(**name));
    if !one_of.is_empty() && given.count() != 1 {
        found.push(format!("{path}: exactly one of {one_of:?} is needed"));
    }
    for needed in schema["required"].as_array().into_iter().flatten() {
        let needed = needed.as_str().expect("a name");
        if !fields.contains_key(needed) {
            found.push(format!("{path}: {needed} is missing"));
        }
    }
    for (name, value) in fields {
        let path = format!("{path}.{name}");
        match (&schema["properties"][name], &schema["additionalProperties"]) {
            (Value::Null, Value::Bool(true)) => {}
            (Value::Null, more @ Value::Object(_)) => look(root, more, value, &path, found),
            (Value::Null, _) => found.push(format!("{path} is not described")),
            (known, _) => look(root, known, value, &path, found),
        }
    }
}

fn is(kind: &str, value: &Value) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("unknown type {other}"),
    }
}
