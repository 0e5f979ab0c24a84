//! `mirrorball init`: an experiment file to begin with.

use std::path::PathBuf;

use mirrorball_experiments::{exit, list::templates};

/// Options of `mirrorball init`.
#[derive(clap::Args, Debug)]
pub(crate) struct InitOptions {
    /// Which template; `mirrorball list templates` shows them
    #[arg(default_value = "minimal")]
    template: String,
    /// The file to write [default: TEMPLATE.yaml]
    #[arg(short, long)]
    output: Option<PathBuf>,
}

/// Writes the template to a file that is not there yet; the exit code.
pub(crate) fn init(options: &InitOptions) -> anyhow::Result<u8> {
    let name = options.template.as_str();
    let Some(template) = templates::by_name(name) else {
        let known: Vec<&str> = templates::ALL
            .iter()
            .map(|template| template.name)
            .collect();
        eprintln!(
            "mirrorball: there is no template {name}; there are {}",
            known.join(", ")
        );
        return Ok(exit::USAGE);
    };
    let file = options.output.clone();
    let file = file.unwrap_or_else(|| format!("{name}.yaml").into());
    let made = std::fs::File::create_new(&file);
    let written = made.and_then(|mut made| {
        std::io::Write::write_all(&mut made, templates::text(template).as_bytes())
    });
    if let Err(error) = written {
        let reason = match error.kind() {
            std::io::ErrorKind::AlreadyExists => "it is there already".to_owned(),
            _ => error.to_string(),
        };
        eprintln!("mirrorball: {}: {reason}", file.display());
        return Ok(exit::USAGE);
    }
    let file = file.display();
    crate::print(&format!(
        "{file}: {}\nnext: mirrorball run {file}\n",
        template.purpose
    ))?;
    Ok(exit::OK)
}
