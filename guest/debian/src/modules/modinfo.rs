//! What a module says about itself in its section `.modinfo`: lines `key=value`, each ended by a
//! zero byte (`scripts/mod/modpost.c` of the kernel writes them).

use object::{Object, ObjectSection};

/// What must be there before a module is loaded.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Needs {
    /// Modules whose symbols it uses.
    pub(super) modules: Vec<String>,
    /// Modules, or aliases of some, that it would like to find.
    pub(super) before: Vec<String>,
}

/// Reads them from the module's ELF file.
pub(super) fn needs(module: &[u8]) -> Result<Needs, String> {
    let file = object::File::parse(module).map_err(|error| error.to_string())?;
    let section = file.section_by_name(".modinfo");
    let section = section.ok_or("it has no section .modinfo")?;
    let data = section.data().map_err(|error| error.to_string())?;
    let mut needs = Needs::default();
    for line in data.split(|&byte| byte == 0) {
        let line = String::from_utf8_lossy(line);
        match line.split_once('=') {
            Some(("depends", names)) => needs.modules.extend(list(names.split(','))),
            Some(("softdep", wish)) => needs.before.extend(list(before(wish))),
            _ => {}
        }
    }
    Ok(needs)
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let names = names.map(str::trim).filter(|name| !name.is_empty());
    names.map(|name| name.replace('-', "_")).collect()
}

/// The names after `pre:`, up to `post:`.
fn before(wish: &str) -> impl Iterator<Item = &str> {
    let mut pre = false;
    wish.split_whitespace().filter(move |word| {
        match *word {
            "pre:" => pre = true,
            "post:" => pre = false,
            _ => return pre,
        }
        false
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::module;
    use super::*;

    #[test]
    fn dependencies_are_read() {
        let raw = module(&[
            "license=GPL",
            "depends=jbd2,crc-16",
            "softdep=pre: a b post: c",
        ]);
        let needs = needs(&raw).unwrap();
        assert_eq!(needs.modules, ["jbd2", "crc_16"]);
        assert_eq!(needs.before, ["a", "b"]);
    }

    #[test]
    fn no_dependencies_are_none() {
        assert_eq!(needs(&module(&["depends="])).unwrap(), Needs::default());
        assert_eq!(
            needs(&module(&["softdep=post: x"])).unwrap(),
            Needs::default()
        );
    }

    #[test]
    fn what_is_no_module_is_refused() {
        assert!(needs(b"\x7fELF").is_err());
        let mut raw = module(&["depends=x"]);
        let at = raw.windows(8).position(|w| w == b".modinfo").unwrap();
        raw[at + 1] = b'x';
        assert!(needs(&raw).unwrap_err().contains(".modinfo"));
    }
}
