//! What a device's file names say: regular expressions whose named groups are fields.

use std::path::Path;

use regex::Regex;

use crate::{
    fields::{Fields, canonical},
    names::readable,
};

/// The templates; the first that matches a name counts.
#[derive(Debug, Default)]
pub struct Templates(Vec<Regex>);

impl Templates {
    /// Compiles them. Every named group must be a field.
    pub fn new(patterns: &[String]) -> Result<Self, String> {
        let compile = |pattern: &String| {
            let regex = Regex::new(pattern).map_err(|e| format!("--template: {e}"))?;
            match regex.capture_names().flatten().find(|name| canonical(name).is_none()) {
                Some(unknown) => Err(format!("--template: the group {unknown:?} is no field")),
                None => Ok(regex),
            }
        };
        Ok(Self(patterns.iter().map(compile).collect::<Result<_, _>>()?))
    }

    /// The fields in a file's name.
    pub fn read(&self, path: &Path) -> Fields {
        let name = readable(path.file_name().unwrap_or_default());
        let mut fields = Fields::default();
        let matched = self.0.iter().find_map(|regex| Some((regex, regex.captures(&name)?)));
        if let Some((regex, captures)) = matched {
            for group in regex.capture_names().flatten() {
                if let Some(value) = captures.name(group) {
                    // Every group is a field: checked when the template was compiled.
                    let _ = fields.put(group, value.as_str());
                }
            }
        }
        fields
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_devices_name_says_what_it_is() {
        let patterns = [
            r"^(?P<device_id>DSJ\d+)_(?P<recorded_started_at>\d{8}_\d{6})_".to_owned(),
            r"^(?P<device_id>[A-Z]+)".to_owned(),
        ];
        let templates = Templates::new(&patterns).unwrap();
        let fields = templates.read(Path::new("/x/DSJ0042_20261120_093000_0001.MP4"));
        assert_eq!(fields.get("device_id"), Some("DSJ0042"));
        assert_eq!(fields.get("recorded_started_at"), Some("20261120_093000"));
        let metadata = fields.to_proto("a", "a/b").unwrap();
        assert_eq!(metadata.recorded_started_at.unwrap().seconds, 1_795_138_200);
        assert_eq!(templates.read(Path::new("IMG.JPG")).get("device_id"), Some("IMG"));
        assert_eq!(templates.read(Path::new("现场.jpg")), Fields::default());
        assert!(Templates::new(&["(?P<colour>x)".into()]).unwrap_err().contains("colour"));
        assert!(Templates::new(&["(".into()]).is_err());
    }
}
