//! Puts text into the page so that it stays text, whatever a recording holds.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::terminal::plain::json;

/// Text for an element or an attribute in double quotes.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            character => escaped.push(character),
        }
    }
    escaped
}

/// JSON for a `script` element: nothing in it ends the element.
pub(super) fn data(value: &impl Serialize) -> serde_json::Result<String> {
    // These characters occur only in JSON's strings, where they may be escaped.
    let json = json(value)?;
    Ok(json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026"))
}

/// The source expression by which a content security policy allows an inline element.
pub(super) fn source(text: &str) -> String {
    format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)))
}

/// The template with each `{{name}}` replaced once. The inserted text is not searched
/// again.
pub(super) fn fill(template: &str, parts: &[(&str, &str)]) -> String {
    let mut page = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        page.push_str(before);
        let (name, after) = after.split_once("}}").unwrap_or((after, ""));
        if let Some((_, text)) = parts.iter().find(|(known, _)| *known == name) {
            page.push_str(text);
        }
        rest = after;
    }
    page + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_in_is_text() {
        assert_eq!(escape("<a href=\"x\">&'"), "&lt;a href=&quot;x&quot;&gt;&amp;&#39;");
        assert_eq!(data(&"</script><!--&").unwrap(), r#""\u003c/script\u003e\u003c!--\u0026""#);
    }

    #[test]
    fn what_is_put_in_is_no_template() {
        let page = fill("<p>{{a}}</p>{{b}}{{none}}.", &[("a", "{{b}}"), ("b", "2")]);
        assert_eq!(page, "<p>{{b}}</p>2.");
    }

    #[test]
    fn sources_are_as_browsers_compute_them() {
        // The example of the CSP specification, section 8.4.
        assert_eq!(
            source("alert('Hello, world.');"),
            "'sha256-qznLcsROx4GACP2dm0UCKCzCG+HiZ1guq6ZZDob/Tng='"
        );
    }
}
