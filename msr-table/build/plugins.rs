//! Which shipped plugin answers which MSRs, as text.

/// A plugin of the file.
#[derive(Default)]
pub(crate) struct Plugin {
    pub(crate) name: String,
    pub(crate) file: String,
    pub(crate) does: String,
    pub(crate) lines: Vec<String>,
    pub(crate) msrs: Vec<(u32, u32)>,
}

pub(crate) fn read(file: &str, text: &str) -> Result<Vec<Plugin>, String> {
    let mut plugins: Vec<Plugin> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let at = |what: &str| format!("msr-table/data/{file}:{}: {what}", number + 1);
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (key, value) = line.split_once(' ').ok_or_else(|| at("a line is KEY VALUE"))?;
        let value = value.trim();
        if key == "plugin" {
            plugins.push(Plugin { name: value.to_owned(), ..Plugin::default() });
            continue;
        }
        let plugin = plugins.last_mut().ok_or_else(|| at("`plugin` comes first"))?;
        match key {
            "file" => value.clone_into(&mut plugin.file),
            "does" => value.clone_into(&mut plugin.does),
            "lines" => plugin.lines.push(value.to_owned()),
            "msrs" => {
                for range in value.split_whitespace() {
                    let (first, last) = range.split_once('-').unwrap_or((range, range));
                    let ends = super::read::number_of(first)
                        .and_then(|first| Ok((first, super::read::number_of(last)?)));
                    plugin.msrs.push(ends.map_err(|error| at(&error))?);
                }
            }
            _ => return Err(at("a key is plugin, file, does, lines or msrs")),
        }
    }
    match plugins.iter().find(|p| p.file.is_empty() || p.does.is_empty() || p.msrs.is_empty()) {
        Some(plugin) => Err(format!("{file}: {} lacks a file, does or msrs", plugin.name)),
        None => Ok(plugins),
    }
}
