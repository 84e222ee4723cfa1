//! Compiles the wire contract (`proto/`) with protox, so that no system `protoc` is needed.
//! Every `bytes` field becomes `bytes::Bytes`, which points into the receive buffer.
//!
//! With the feature `json` the descriptors also become the tables that JSON is read and written by (`src/json`).

#[cfg(feature = "types")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    const FILES: [&str; 8] = [
        "rpc.proto",
        "kv.proto",
        "auth.proto",
        "lock.proto",
        "election.proto",
        "health.proto",
        "migration.proto",
        "snapshot.proto",
    ];
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    #[cfg(feature = "json")]
    tables::write(&descriptors)?;
    prost_build::Config::new().bytes(["."]).compile_fds(descriptors)?;
    Ok(())
}

#[cfg(not(feature = "types"))]
fn main() {}

#[cfg(feature = "json")]
mod tables {
    //! One `static` for each message and enum, and a list of what each method takes and gives.

    use protox::prost_reflect::{
        Cardinality, DescriptorPool, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor,
    };
    use std::fmt::Write;

    type Fault = Box<dyn std::error::Error>;

    pub fn write(descriptors: &protox::prost_reflect::prost_types::FileDescriptorSet) -> Result<(), Fault> {
        let pool = DescriptorPool::from_file_descriptor_set(descriptors.clone())?;
        let mut out = String::new();
        for message in pool.all_messages() {
            write_message(&mut out, &message)?;
        }
        for of_enum in pool.all_enums() {
            write_enum(&mut out, &of_enum)?;
        }
        writeln!(out, "/// Request and answer of every method.")?;
        writeln!(out, "pub(super) static METHODS: &[(&str, &MessageSpec, &MessageSpec)] = &[")?;
        for method in pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
            let (request, answer) = (method.input(), method.output());
            let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
            writeln!(out, "({path:?}, &{}, &{}),", ident(request.full_name()), ident(answer.full_name()))?;
        }
        writeln!(out, "];")?;
        let folder = std::env::var("OUT_DIR")?;
        std::fs::write(format!("{folder}/json_tables.rs"), out)?;
        Ok(())
    }

    fn ident(full_name: &str) -> String {
        full_name.replace('.', "_").to_uppercase()
    }

    fn write_message(out: &mut String, message: &MessageDescriptor) -> Result<(), Fault> {
        writeln!(out, "static {}: MessageSpec = MessageSpec {{ fields: &[", ident(message.full_name()))?;
        // In the order of declaration, which is the order that JSON is written in.
        let declared = message.descriptor_proto().field.iter().map(|field| field.number() as u32);
        for number in declared {
            let field = message.get_field(number).ok_or("a field without a number")?;
            let oneof = field.containing_oneof().map(|oneof| oneof.full_name().to_string());
            writeln!(
                out,
                "FieldSpec {{ number: {number}, name: {:?}, json_name: {:?}, kind: {}, is_list: {}, oneof: {oneof:?} }},",
                field.name(),
                field.json_name(),
                kind(&field)?,
                field.cardinality() == Cardinality::Repeated,
            )?;
        }
        writeln!(out, "] }};")?;
        Ok(())
    }

    fn write_enum(out: &mut String, of_enum: &EnumDescriptor) -> Result<(), Fault> {
        write!(out, "const {}: &[(&str, i32)] = &[", ident(of_enum.full_name()))?;
        for value in of_enum.values() {
            write!(out, "({:?}, {}),", value.name(), value.number())?;
        }
        writeln!(out, "];")?;
        Ok(())
    }

    fn kind(field: &FieldDescriptor) -> Result<String, Fault> {
        Ok(match field.kind() {
            Kind::Bool => "Kind::Bool".to_string(),
            Kind::Int64 => "Kind::Int64".to_string(),
            Kind::Uint64 => "Kind::Uint64".to_string(),
            Kind::Uint32 => "Kind::Uint32".to_string(),
            Kind::String => "Kind::Text".to_string(),
            Kind::Bytes => "Kind::Bytes".to_string(),
            Kind::Enum(of_enum) => format!("Kind::Enum({})", ident(of_enum.full_name())),
            Kind::Message(message) => format!("Kind::Message(&{})", ident(message.full_name())),
            other => return Err(format!("{}: JSON of {other:?} is not there yet", field.full_name()).into()),
        })
    }
}
