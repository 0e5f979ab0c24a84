//! The JSON Schema of experiment files, for editors: written from the descriptions that the reader
//! reads by. Draft 7, which the YAML language server knows.

use serde_json::{Map as Json, Value, json};

use super::Experiment;
use super::describe::{Absent, Field, Map, Shape};
use super::reader::FromNode;
use super::text;

/// Where the schema lies in the repository.
const ID: &str = "experiments/schema.json";

/// The schema.
#[must_use]
pub fn schema() -> Value {
    let mut definitions = Json::new();
    let top = of(&Experiment::shape(), &mut definitions);
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": ID,
        "title": "Experiment file of Mirrorball, version 1",
        "allOf": [top],
        "definitions": definitions,
    })
}

fn of(shape: &Shape, definitions: &mut Json<String, Value>) -> Value {
    match shape {
        Shape::Number { least, most } => match most {
            // JSON's numbers have no 64 bits.
            &u64::MAX => json!({ "type": "integer", "minimum": least }),
            most => json!({ "type": "integer", "minimum": least, "maximum": most }),
        },
        Shape::Decimal => json!({ "type": "number" }),
        Shape::Any => json!({}),
        Shape::Text { pattern: "", .. } => json!({ "type": "string", "minLength": 1 }),
        Shape::Text { pattern, .. } => json!({ "type": "string", "pattern": pattern }),
        Shape::Words(words) => {
            let words = words.iter().map(|(word, _)| *word).collect::<Vec<_>>();
            json!({ "enum": words })
        }
        Shape::List(item) => json!({ "type": "array", "items": of(item, definitions) }),
        Shape::ById(item) => {
            json!({ "type": "object", "additionalProperties": of(item, definitions) })
        }
        Shape::Map(map) => refer(map, None, definitions),
        Shape::Tagged { tag, maps } => {
            let maps = maps.iter().map(|map| refer(map, Some(tag), definitions));
            json!({ "oneOf": maps.collect::<Vec<_>>() })
        }
        Shape::Either(shapes) => {
            let shapes = shapes.iter().map(|shape| of(shape, definitions));
            json!({ "anyOf": shapes.collect::<Vec<_>>() })
        }
    }
}

/// A reference to a map, which is defined once.
fn refer(map: &Map, tag: Option<&str>, definitions: &mut Json<String, Value>) -> Value {
    let group = if tag == Some("name") { "workload " } else { "" };
    let name = format!("{group}{}", map.name).replace(' ', "-");
    if !definitions.contains_key(&name) {
        definitions.insert(name.clone(), Value::Null);
        let defined = define(map, tag, definitions);
        definitions.insert(name.clone(), defined);
    }
    json!({ "$ref": format!("#/definitions/{name}") })
}

fn define(map: &Map, tag: Option<&str>, definitions: &mut Json<String, Value>) -> Value {
    let mut properties = Json::new();
    for field in &map.fields {
        let mut property = of(&(field.shape)(), definitions);
        if Some(field.name) == tag {
            let word = map.name.rsplit(' ').next().unwrap_or(map.name);
            property = json!({ "const": word });
        }
        properties.insert(field.name.to_owned(), told(property, field));
    }
    let needed = map.fields.iter().filter(|f| f.absent == Absent::Refused);
    let mut object = json!({
        "description": map.about,
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    });
    let needed = needed.map(|field| field.name).collect::<Vec<_>>();
    if !needed.is_empty() {
        object["required"] = json!(needed);
    }
    if !map.one_of.is_empty() {
        let one = map.one_of.iter().map(|name| json!({ "required": [name] }));
        object["oneOf"] = one.collect();
    }
    object
}

/// A property with what the field is for. Beside a reference draft 7 ignores everything.
fn told(property: Value, field: &Field) -> Value {
    let about = match field.absent {
        Absent::Means(without) => format!("{} (without it: {without})", field.about),
        Absent::Refused | Absent::Reads(_) => field.about.to_owned(),
    };
    let mut told = if property.get("$ref").is_some() {
        json!({ "allOf": [property] })
    } else {
        property
    };
    told["description"] = about.into();
    if let Absent::Reads(text) = field.absent
        && let Ok(node) = text::parse(text)
    {
        told["default"] = node.plain();
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_is_defined_and_unknown_fields_are_refused() {
        let schema = schema();
        let text = schema.to_string();
        for reference in text.split("#/definitions/").skip(1) {
            let name = reference.split('"').next().unwrap();
            let defined = &schema["definitions"][name];
            assert_eq!(defined["additionalProperties"], false, "{name}");
        }
        let guest = &schema["definitions"]["guest"];
        assert_eq!(guest["required"], json!(["id", "count", "memory"]));
        assert_eq!(guest["properties"]["vcpus"]["default"], 1);
        let pmake = &schema["definitions"]["workload-pmake"];
        assert_eq!(pmake["properties"]["name"]["const"], "pmake");
        assert_eq!(
            schema["definitions"]["phase-settle"]["properties"]["id"]["const"],
            "settle"
        );
    }
}
