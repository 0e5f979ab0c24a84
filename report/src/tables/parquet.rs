//! Tables as Parquet files, for those whose data frames read nothing else so fast.
//!
//! They are made of the CSV files, which stay what is kept: a column's type follows from its name, an
//! empty field is null. Rows are written in groups, so that a long time series needs no memory for
//! all of it at once but its file.

use std::io::Read;
use std::sync::Arc;

use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;

/// Rows of a group.
const GROUP: usize = 50_000;
/// Version of the tables, in each file's metadata.
const SCHEMA_VERSION: u32 = 1;

/// A table that can't be made.
#[derive(Debug, thiserror::Error)]
pub enum ParquetError {
    /// The CSV file can't be read.
    #[error("the CSV table can't be read: {0}")]
    Csv(#[from] csv::Error),
    /// A field is not what its column says.
    #[error("row {row}: `{text}` is no value of `{column}`")]
    Value {
        /// The row, from 1, without the header.
        row: u64,
        /// The column.
        column: String,
        /// The field.
        text: String,
    },
    /// It can't be written.
    #[error("the Parquet table can't be written: {0}")]
    Written(#[from] parquet::errors::ParquetError),
}

/// The bytes of a Parquet file with the rows of a CSV file.
///
/// # Errors
/// The CSV file can't be read, or holds what its columns don't.
pub fn parquet(table: impl Read) -> Result<Vec<u8>, ParquetError> {
    let mut reader = csv::Reader::from_reader(table);
    let mut columns: Vec<Column> = reader.headers()?.iter().map(Column::new).collect();
    let fields: String = columns.iter().map(Column::field).collect();
    let schema = parse_message_type(&format!("message table {{ {fields}}}"))?;
    let version = KeyValue::new("schema_version".to_owned(), SCHEMA_VERSION.to_string());
    let properties = WriterProperties::builder()
        .set_created_by("Mirrorball".to_owned())
        .set_key_value_metadata(Some(vec![version]))
        .build();
    let mut writer = SerializedFileWriter::new(Vec::new(), Arc::new(schema), Arc::new(properties))?;
    let (mut waiting, mut row) = (0, 0);
    for record in reader.into_records() {
        let record = record?;
        row += 1;
        for (column, text) in columns.iter_mut().zip(record.iter()) {
            column.add(row, text)?;
        }
        waiting += 1;
        if waiting == GROUP {
            save(writer.next_row_group()?, &mut columns)?;
            waiting = 0;
        }
    }
    if waiting > 0 {
        save(writer.next_row_group()?, &mut columns)?;
    }
    Ok(writer.into_inner()?)
}

fn save(
    mut group: SerializedRowGroupWriter<'_, Vec<u8>>,
    columns: &mut [Column],
) -> Result<(), ParquetError> {
    for column in columns {
        let Some(mut writer) = group.next_column()? else {
            break;
        };
        let there = Some(column.there.as_slice());
        match &mut column.values {
            Values::Text(values) => {
                writer
                    .typed::<ByteArrayType>()
                    .write_batch(values, there, None)?;
                values.clear();
            }
            Values::Integers(values) => {
                writer
                    .typed::<Int64Type>()
                    .write_batch(values, there, None)?;
                values.clear();
            }
            Values::Numbers(values) => {
                writer
                    .typed::<DoubleType>()
                    .write_batch(values, there, None)?;
                values.clear();
            }
        }
        column.there.clear();
        writer.close()?;
    }
    group.close()?;
    Ok(())
}

/// A column of the rows that wait.
struct Column {
    name: String,
    /// 1 for a value, 0 for none (Parquet's definition levels).
    there: Vec<i16>,
    values: Values,
}

enum Values {
    Text(Vec<ByteArray>),
    Integers(Vec<i64>),
    Numbers(Vec<f64>),
}

impl Column {
    fn new(name: &str) -> Self {
        let integers = ["run", "guests", "guests_up", "vmas"];
        let is_integer =
            integers.contains(&name) || name.ends_with("_bytes") || name.ends_with("_pages");
        let values = if is_integer {
            Values::Integers(Vec::new())
        } else if name == "value" || name.ends_with("_seconds") {
            Values::Numbers(Vec::new())
        } else {
            Values::Text(Vec::new())
        };
        Self {
            name: name.to_owned(),
            there: Vec::new(),
            values,
        }
    }

    /// The field of the schema.
    fn field(&self) -> String {
        let name = &self.name;
        match self.values {
            Values::Text(_) => format!("OPTIONAL BINARY {name} (UTF8); "),
            Values::Integers(_) => format!("OPTIONAL INT64 {name}; "),
            Values::Numbers(_) => format!("OPTIONAL DOUBLE {name}; "),
        }
    }

    fn add(&mut self, row: u64, text: &str) -> Result<(), ParquetError> {
        if text.is_empty() {
            self.there.push(0);
            return Ok(());
        }
        let known = match &mut self.values {
            Values::Text(values) => {
                values.push(text.as_bytes().to_vec().into());
                true
            }
            Values::Integers(values) => add(values, text),
            Values::Numbers(values) => add(values, text),
        };
        if !known {
            return Err(ParquetError::Value {
                row,
                column: self.name.clone(),
                text: text.to_owned(),
            });
        }
        self.there.push(1);
        Ok(())
    }
}

/// Whether `text` is such a value, which is then one more.
fn add<T: std::str::FromStr>(values: &mut Vec<T>, text: &str) -> bool {
    let value = text.parse().ok();
    let known = value.is_some();
    values.extend(value);
    known
}

#[cfg(test)]
mod tests {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::RowAccessor;

    use super::*;
    use crate::samples::{MACHINE, Sample};

    fn read(bytes: Vec<u8>) -> SerializedFileReader<bytes::Bytes> {
        SerializedFileReader::new(bytes::Bytes::from(bytes)).unwrap()
    }

    #[test]
    fn rows_come_back_with_their_types_and_what_was_not_measured_is_null() {
        let mut writer = csv::Writer::from_writer(Vec::new());
        let rows = u32::try_from(GROUP + 7).unwrap();
        for run in 1..=rows {
            let sample = Sample {
                cell: "all".into(),
                run,
                time_seconds: f64::from(run) / 8.0,
                vm: MACHINE.into(),
                private_bytes: 1 << 40,
                ksm_bytes: (run == 2).then_some(4096),
                ..Sample::default()
            };
            writer.serialize(sample).unwrap();
        }
        let reader = read(parquet(writer.into_inner().unwrap().as_slice()).unwrap());
        let metadata = reader.metadata().file_metadata();
        assert_eq!(
            (reader.num_row_groups(), metadata.num_rows()),
            (2, rows.into())
        );
        let names = metadata
            .schema_descr()
            .columns()
            .iter()
            .map(|column| column.name());
        let place = |name: &str| names.clone().position(|other| other == name).unwrap();
        let all: Vec<_> = reader
            .get_row_iter(None)
            .unwrap()
            .map(Result::unwrap)
            .collect();
        let second = &all[1];
        assert_eq!(second.get_string(place("cell")).unwrap(), "all");
        assert_eq!(second.get_long(place("private_bytes")).unwrap(), 1 << 40);
        assert_eq!(second.get_long(place("ksm_bytes")).unwrap(), 4096);
        assert!((second.get_double(place("time_seconds")).unwrap() - 0.25).abs() < 1e-12);
        assert!(
            all[2].get_long(place("ksm_bytes")).is_err(),
            "null is no number"
        );
        assert_eq!(
            all[GROUP].get_long(place("run")).unwrap(),
            i64::from(rows) - 6
        );
    }

    #[test]
    fn a_field_of_another_type_is_named_with_its_row() {
        let table = "cell,run,value\na,1,2.5\na,2,many\n";
        let told = parquet(table.as_bytes()).unwrap_err().to_string();
        assert_eq!(told, "row 2: `many` is no value of `value`");
        assert!(parquet("cell,run\na,1.5\n".as_bytes()).is_err());
    }
}
