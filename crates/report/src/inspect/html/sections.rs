//! The parts of the page that read well without a script.

use super::super::features::{Feature, FunctionInspection};
use super::super::report::{GuessInspection, Inspection};
use super::super::weights::{LayerInspection, Role, WeightInspection};
use super::super::{findings, terminal_text};
use super::{escape, name, text};
use anemll_mil::lint::RULES;
use anemll_terminal as terminal;
use anemll_terminal::{count, size};
use std::cmp::Reverse;
use std::fmt::Write as _;
use std::path::Path;

/// Operations of a function that stand outside the fold.
const COMMON_OPERATIONS: usize = 12;
/// Limits that no real model reaches, so that a page for a hostile one can be opened.
const MAXIMUM_FUNCTIONS: usize = 200;
const MAXIMUM_FEATURES: usize = 500;
const MAXIMUM_CAUSES: usize = 300;
const MAXIMUM_PLACES: usize = 60;
const MAXIMUM_LAYERS: usize = 2000;
const MAXIMUM_ENTRIES: usize = 500;

/// Name of the file or folder without its ending.
pub(super) fn title(found: &Inspection) -> String {
    let path = Path::new(&found.path);
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    stem.unwrap_or_else(|| found.path.clone())
}

pub(super) fn body(found: &Inspection, shown: &[&WeightInspection], rest: u64) -> String {
    let causes = findings::causes(&found.findings);
    let mut sections = vec![("size", "Size", None, treemap(found))];
    sections.push(("functions", "Functions", Some(found.functions.len()), functions(found)));
    if !found.layers.is_empty() {
        sections.push(("layers", "Layers", None, layers(found)));
        sections.push((
            "weights",
            "Weights",
            Some(found.weights.len()),
            weights(found, shown, rest),
        ));
    }
    sections.push(("lint", "Lint", Some(causes.len()), lint(&causes)));
    if !(found.metadata.is_empty() && found.build_info.is_empty()) {
        sections.push(("metadata", "Metadata", None, metadata(found)));
    }
    if let Some(guesses) = found.guesses.as_ref().filter(|guesses| !guesses.is_empty()) {
        sections.push(("guesses", "Guessed parts", Some(guesses.len()), self::guesses(guesses)));
    }
    sections.push(("files", "Files", None, files(found)));

    let mut page = header(found);
    page.push_str("<nav aria-label=\"Sections\"><div class=\"wrap\">");
    for (id, title, number, _) in &sections {
        let number = number.map(|number| format!(" <span>{number}</span>")).unwrap_or_default();
        let _ = write!(page, "<a href=\"#{id}\">{title}{number}</a>");
    }
    page.push_str("</div></nav>\n<main class=\"wrap\" id=\"main\">\n");
    for (id, title, _, content) in &sections {
        let _ = writeln!(
            page,
            "<section id=\"{id}\" aria-labelledby=\"{id}-title\"><h2 id=\"{id}-title\">{title}</h2>\n{content}</section>"
        );
    }
    let _ = write!(
        page,
        "<footer>Made by <code>anemll inspect</code> {}. Sizes are decimal: 1 MB is a million \
         bytes.</footer>\n</main>",
        env!("CARGO_PKG_VERSION")
    );
    page
}

fn header(found: &Inspection) -> String {
    let kind = format!("Core ML {}", found.form.title());
    let mut page = format!(
        "<header class=\"top wrap\"><p class=\"kind\">{kind}</p>\n<h1>{}</h1>\n",
        name(&title(found))
    );
    if !found.short_description.is_empty() {
        let _ = writeln!(page, "<p class=\"about\">{}</p>", text(&found.short_description));
    }
    page.push_str("<dl class=\"facts\">");
    let mut fact = |title: &str, value: String, note: String| {
        let _ = write!(
            page,
            "<div><dt>{title}</dt><dd>{}<small>{}</small></dd></div>",
            escape(&value),
            escape(&note)
        );
    };
    fact("Size", size(found.total_bytes()), format!("program {}", size(found.model_bytes)));
    if !found.weights.is_empty() {
        let sharing = found.weights.iter().filter(|weight| weight.functions.len() > 1).count();
        let note = match sharing {
            0 => format!("in {} weights", found.weights.len()),
            _ => format!("in {} weights, {sharing} shared", found.weights.len()),
        };
        fact("Values", count(found.elements), note);
        let plain = found.elements.saturating_mul(2);
        fact(
            "Bits per value",
            format!("{:.2}", found.bits),
            format!("{} in 16-bit floats", size(plain)),
        );
    }
    let (system, rest) = super::super::minimum_system(found.specification_version)
        .split_once(", ")
        .unwrap_or((found.minimum_system, ""));
    fact(
        "Needs",
        system.to_owned(),
        format!("{rest}, specification {}", found.specification_version),
    );
    let worst = found.findings.first().map_or("nothing found", |finding| finding.severity);
    let worst = match worst {
        "nothing found" => "Clean".to_owned(),
        "performance" => "Speed".to_owned(),
        word => format!("{}{}", word[..1].to_uppercase(), &word[1..]),
    };
    fact("Lint, at worst", worst, findings::summary(&found.findings));
    page.push_str("</dl></header>\n");
    page
}

fn treemap(found: &Inspection) -> String {
    let mut page = String::from("<div class=\"tools\"><ul class=\"legend roles\">");
    let mut item = |class: &str, label: &str, bytes: u64| {
        if bytes > 0 {
            let _ = write!(
                page,
                "<li><span class=\"swatch {class}\"></span><b>{label}</b> <span class=\"soft\">{}</span></li>",
                size(bytes)
            );
        }
    };
    for role in Role::ALL {
        let of = found.weights.iter().filter(|weight| weight.role == role);
        item(role.name(), role.name(), of.fold(0, |sum, weight| sum.saturating_add(weight.bytes)));
    }
    item("program", "program", found.model_bytes);
    item("unused", "unused", found.unused_bytes);
    page.push_str(
        "</ul><div id=\"ramp\">1 bit <i></i> 16 bits per value</div>\
         <fieldset class=\"switch\"><legend>Color by</legend>\
         <label><input type=\"radio\" name=\"color\" value=\"role\" checked> role</label>\
         <label><input type=\"radio\" name=\"color\" value=\"bits\"> bits</label></fieldset></div>\n\
         <div id=\"treemap\"></div>\n<noscript><p class=\"soft\">The map of sizes is drawn by a \
         script; the tables below hold the same numbers.</p></noscript>",
    );
    page
}

fn functions(found: &Inspection) -> String {
    let mut page = String::new();
    for function in found.functions.iter().take(MAXIMUM_FUNCTIONS) {
        let default = found.default_function.as_ref() == Some(&function.name);
        let _ = write!(
            page,
            "<article class=\"card function\"><header><h3>{}</h3>{}<span class=\"chip\">{}</span>\
             <span class=\"chip\">{} operations</span></header><div class=\"columns\"><div>",
            name(&function.name),
            if default { "<span class=\"chip main\">default</span>" } else { "" },
            name(&function.opset),
            function.operation_count()
        );
        page.push_str("<table class=\"ports\">");
        for (kind, features) in [
            ("Inputs", &function.inputs),
            ("Outputs", &function.outputs),
            ("States", &function.states),
        ] {
            page += &ports(kind, features);
        }
        page.push_str("</table></div><div><h4>Operations</h4>");
        page += &operations(function);
        page.push_str("</div></div></article>\n");
    }
    page += &more(found.functions.len(), MAXIMUM_FUNCTIONS, "functions");
    page
}

fn more(count: usize, limit: usize, what: &str) -> String {
    match count.checked_sub(limit) {
        None | Some(0) => String::new(),
        Some(left) => format!("<p class=\"empty\">and {left} more {what}, which --json lists</p>"),
    }
}

fn ports(kind: &str, features: &[Feature]) -> String {
    let mut page = String::new();
    if features.is_empty() {
        return page;
    }
    page.push_str("<tbody>");
    for (index, feature) in features.iter().take(MAXIMUM_FEATURES).enumerate() {
        let head = match index {
            0 => format!(
                "<th scope=\"rowgroup\" rowspan=\"{}\">{kind}</th>",
                features.len().min(MAXIMUM_FEATURES)
            ),
            _ => String::new(),
        };
        let about = match feature.description.is_empty() {
            true => String::new(),
            false => format!("<small>{}</small>", name(&feature.description)),
        };
        let _ = write!(
            page,
            "<tr>{head}<td><span class=\"mono\">{}</span>{about}</td><td class=\"type\">{} {}</td></tr>",
            name(&feature.name),
            name(&feature.dtype),
            name(&feature.shape_text())
        );
    }
    page.push_str("</tbody>");
    page
}

fn operations(function: &FunctionInspection) -> String {
    let mut list: Vec<(&String, u64)> =
        function.operations.iter().map(|(name, count)| (name, *count)).collect();
    list.sort_by_key(|(name, count)| (Reverse(*count), *name));
    let most = list.first().map_or(1, |(_, count)| *count).max(1);
    let rows = |list: &[(&String, u64)]| {
        let mut page = String::from("<dl class=\"ops\">");
        for (operation, count) in list {
            let width = (*count as f64 / most as f64 * 100.0).max(0.5);
            let _ = write!(
                page,
                "<dt>{}</dt><dd aria-hidden=\"true\"><svg class=\"bar\" viewBox=\"0 0 100 8\" \
                 preserveAspectRatio=\"none\"><rect width=\"{width:.1}\" height=\"8\"/></svg></dd>\
                 <dd class=\"n\">{count}</dd>",
                name(operation)
            );
        }
        page.push_str("</dl>");
        page
    };
    let (common, rest) = list.split_at(list.len().min(COMMON_OPERATIONS));
    let mut page = rows(common);
    if !rest.is_empty() {
        let shown = &rest[..rest.len().min(MAXIMUM_ENTRIES)];
        let _ = write!(
            page,
            "<details><summary>{} more</summary>{}</details>",
            rest.len(),
            rows(shown)
        );
    }
    page
}

/// A bar of the bytes of each role.
fn role_bar(layer: &LayerInspection, most: u64) -> String {
    let mut page = String::from(
        "<svg class=\"bar\" viewBox=\"0 0 100 8\" preserveAspectRatio=\"none\" aria-hidden=\"true\">",
    );
    let mut from = 0.0;
    for role in Role::ALL {
        let bytes = layer.roles.get(role.name()).copied().unwrap_or(0);
        let width = bytes as f64 / most.max(1) as f64 * 100.0;
        if width > 0.0 {
            let _ = write!(
                page,
                "<rect class=\"{}\" x=\"{from:.2}\" width=\"{width:.2}\" height=\"8\"/>",
                role.name()
            );
        }
        from += width;
    }
    page.push_str("</svg>");
    page
}

fn layers(found: &Inspection) -> String {
    let most = found.layers.iter().map(|layer| layer.bytes).max().unwrap_or(1);
    let total = found.weight_bytes().max(1);
    let mut page = String::from(
        "<div class=\"card scroll\"><table><thead><tr><th scope=\"col\">Layer</th>\
         <th scope=\"col\" class=\"n\">Weights</th><th scope=\"col\" class=\"n\">Values</th>\
         <th scope=\"col\" class=\"n\">Bits</th><th scope=\"col\" class=\"n\">Size</th>\
         <th scope=\"col\" class=\"n\">Share</th><th scope=\"col\">Roles</th></tr></thead><tbody>",
    );
    for layer in found.layers.iter().take(MAXIMUM_LAYERS) {
        let title =
            if layer.numbered { format!("layer {}", layer.name) } else { layer.name.clone() };
        let _ = write!(
            page,
            "<tr><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{:.2}</td>\
             <td class=\"n\">{}</td><td class=\"n\">{:.1} %</td><td>{}</td></tr>",
            name(&title),
            layer.weights,
            count(layer.elements),
            layer.bits,
            size(layer.bytes),
            layer.bytes as f64 / total as f64 * 100.0,
            role_bar(layer, most)
        );
    }
    page.push_str("</tbody></table></div>\n");
    page += &more(found.layers.len(), MAXIMUM_LAYERS, "layers");
    page
}

fn weights(found: &Inspection, shown: &[&WeightInspection], rest: u64) -> String {
    let several = found.functions.len() > 1;
    let mut page = String::from(
        "<div class=\"card\"><div class=\"filter\"><input id=\"filter\" type=\"search\" \
         placeholder=\"Filter by name, form, role, function\" aria-label=\"Filter weights\" \
         autocomplete=\"off\" spellcheck=\"false\"><output id=\"shown\" for=\"filter\"></output></div>\
         <div class=\"scroll\"><table><thead><tr><th scope=\"col\" data-key=\"name\">Name</th>\
         <th scope=\"col\">Shape</th><th scope=\"col\">Form</th>\
         <th scope=\"col\" class=\"n\" data-key=\"bits\">Bits</th>\
         <th scope=\"col\" class=\"n\" data-key=\"size\">Size</th>",
    );
    if several {
        page.push_str("<th scope=\"col\" class=\"n\" data-key=\"shared\">Functions</th>");
    }
    page.push_str("<th scope=\"col\" class=\"spark\">Values</th></tr></thead><tbody>\n");
    for (index, weight) in shown.iter().enumerate() {
        let problem = terminal_text::problem(weight);
        let bad = problem
            .map(|problem| format!(" <small class=\"bad\">{}</small>", name(&problem)))
            .unwrap_or_default();
        let _ = write!(
            page,
            "<tr class=\"row\" data-index=\"{index}\"><td><button type=\"button\" class=\"name\" \
             aria-expanded=\"false\"><span class=\"swatch {}\"></span><span>{}</span></button>{bad}</td>\
             <td class=\"shape soft\">{}</td><td class=\"soft\">{}</td>\
             <td class=\"n\" data-label=\"bits\">{:.2}</td><td class=\"n\">{}</td>",
            weight.role.name(),
            // Long names break behind a part, not within one.
            name(&weight.name).replace('_', "_<wbr>"),
            name(&terminal::shape(&weight.shape)),
            form(weight),
            weight.bits,
            size(weight.bytes)
        );
        if several {
            let _ = write!(
                page,
                "<td class=\"n\" data-label=\"functions\">{}</td>",
                weight.functions.len()
            );
        }
        page.push_str(
            "<td class=\"spark\"><canvas width=\"96\" height=\"26\"></canvas></td></tr>\n",
        );
    }
    page.push_str("</tbody></table></div></div>\n");
    if rest > 0 || shown.len() < found.weights.len() {
        let _ = write!(
            page,
            "<p class=\"empty\">and {} smaller weights with {} together, which --json lists</p>",
            found.weights.len() - shown.len(),
            size(rest)
        );
    }
    page
}

fn form(weight: &WeightInspection) -> String {
    match weight.form.as_str() {
        "plain" => weight.dtype.to_owned(),
        form => escape(form),
    }
}

fn lint(causes: &[findings::Cause<'_>]) -> String {
    if causes.is_empty() {
        return "<div class=\"card\"><p class=\"empty\">No rule of the Neural Engine lint is \
                broken.</p></div>\n"
            .to_owned();
    }
    let mut page = String::from("<div class=\"card\">");
    for cause in causes.iter().take(MAXIMUM_CAUSES) {
        let first = cause.first;
        let rule = RULES.iter().find(|rule| rule.id == first.rule).map_or("", |rule| rule.title);
        let number = cause.places.len();
        let _ = write!(
            page,
            "<div class=\"cause\"><div class=\"severity {0}\">{0}<small>{1}</small><small>{2}</small></div>\
             <div><p>{3}</p><p>Rule: {4}</p>",
            first.severity,
            first.rule,
            evidence(first.evidence),
            text(&first.reason),
            escape(rule)
        );
        let named: Vec<String> = cause
            .places
            .iter()
            .map(|(function, place)| findings::place_text(function, place))
            .filter(|place| !place.is_empty())
            .take(MAXIMUM_PLACES)
            .collect();
        if !named.is_empty() {
            let places =
                if number == 1 { "1 place".to_owned() } else { format!("{number} places") };
            let open = if number <= 2 { " open" } else { "" };
            let _ = write!(page, "<details{open}><summary>{places}</summary><ul class=\"mono\">");
            for place in &named {
                let _ = write!(page, "<li>{}</li>", name(place));
            }
            if number > named.len() {
                let _ = write!(page, "<li>and {} more</li>", number - named.len());
            }
            page.push_str("</ul></details>");
        }
        page.push_str("</div></div>");
    }
    page.push_str("</div>\n");
    page += &more(causes.len(), MAXIMUM_CAUSES, "causes");
    page
}

/// The letters of a rule's evidence in words.
fn evidence(letters: &str) -> String {
    let word = |letter| match letter {
        'M' => "measured",
        'A' => "said by Apple",
        'F' => "reported",
        'I' => "inferred",
        _ => "unknown",
    };
    letters.chars().map(word).collect::<Vec<_>>().join(", ")
}

fn guesses(guesses: &[GuessInspection]) -> String {
    let mut page = String::from(
        "<p class=\"lead\">No output of Apple's compiler has shown the form of these parts yet.</p>\
         <div class=\"card\"><table class=\"pairs plain\"><tbody>",
    );
    for guess in guesses {
        let _ = write!(
            page,
            "<tr><th scope=\"row\">{}</th><td><span class=\"mono\">{}</span>\n<span class=\"soft\">{}</span></td></tr>",
            escape(guess.what),
            name(&guess.place),
            escape(guess.evidence)
        );
    }
    page.push_str("</tbody></table></div>\n");
    page
}

fn metadata(found: &Inspection) -> String {
    let mut page = String::from("<div class=\"card\"><table class=\"pairs\"><tbody>");
    let own = [("version", &found.version), ("author", &found.author), ("license", &found.license)];
    let own = own.iter().filter(|(_, value)| !value.is_empty()).map(|(key, value)| (*key, *value));
    let all = own.chain(
        found.metadata.iter().chain(&found.build_info).map(|(key, value)| (key.as_str(), value)),
    );
    for (key, value) in all.take(MAXIMUM_ENTRIES) {
        let _ =
            write!(page, "<tr><th scope=\"row\">{}</th><td>{}</td></tr>", name(key), text(value));
    }
    page.push_str("</tbody></table></div>\n");
    page += &more(found.metadata.len(), MAXIMUM_ENTRIES, "entries");
    page
}

fn files(found: &Inspection) -> String {
    let mut page = String::from("<div class=\"card scroll\"><table><tbody>");
    for part in &found.files {
        let _ = write!(
            page,
            "<tr><td class=\"mono\">{}</td><td class=\"n\">{}</td></tr>",
            name(&part.name),
            size(part.bytes)
        );
    }
    page.push_str("</tbody></table></div>\n");
    page
}
