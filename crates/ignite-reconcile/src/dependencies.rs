//! The order that `spec.dependsOn` asks for: who waits for whom, and who waits for himself.

use crate::wanted::WantedSet;
use std::collections::{BTreeMap, BTreeSet};

/// For each wanted VM whose dependencies can never be fulfilled, why. `existing` are the names of VMs that are there.
pub(crate) fn impossible(set: &WantedSet, existing: &BTreeSet<&str>) -> BTreeMap<String, String> {
    let edges: BTreeMap<&str, Vec<&str>> = set
        .vms
        .iter()
        .map(|wanted| (wanted.name(), wanted.vm.spec.depends_on.iter().map(|d| d.name.as_str()).collect()))
        .collect();
    let mut impossible = BTreeMap::new();
    for (name, targets) in &edges {
        let unknown = targets.iter().find(|target| !edges.contains_key(**target) && !existing.contains(**target));
        if let Some(target) = unknown {
            impossible.insert((*name).to_owned(), format!("it depends on {target}, which is not in the set"));
        } else if let Some(circle) = circle_through(name, &edges) {
            impossible.insert((*name).to_owned(), format!("it depends on itself: {}", circle.join(" -> ")));
        }
    }
    impossible
}

/// The shortest way from a VM back to itself.
fn circle_through<'a>(name: &'a str, edges: &BTreeMap<&'a str, Vec<&'a str>>) -> Option<Vec<&'a str>> {
    let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
    let mut next = vec![name];
    while !next.is_empty() {
        let mut after = Vec::new();
        for node in next {
            for target in edges.get(node).into_iter().flatten() {
                if *target == name {
                    let mut way = vec![name, node];
                    let mut at = node;
                    while at != name {
                        at = came_from.get(at)?;
                        way.push(at);
                    }
                    way.reverse();
                    way.dedup();
                    return Some(if way.len() == 1 { vec![name, name] } else { way });
                }
                if !came_from.contains_key(target) {
                    came_from.insert(target, node);
                    after.push(*target);
                }
            }
        }
        next = after;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::load_text;
    use ignite_api::VmSpec;

    fn set(edges: &[(&str, &[&str])]) -> WantedSet {
        let text: String = edges
            .iter()
            .map(|(name, on)| {
                let on: Vec<_> = on.iter().map(|name| format!("{{name: {name}}}")).collect();
                format!(
                    "---\napiVersion: ignite.weave.works/v1alpha4\nkind: VM\nmetadata: {{name: {name}}}\nspec: {{image: {{oci: b}}, dependsOn: [{}]}}\n",
                    on.join(", ")
                )
            })
            .collect();
        let set = load_text("a.yaml", text.as_bytes(), &VmSpec::default());
        assert!(set.problems.is_empty(), "{:?}", set.problems);
        set
    }

    #[test]
    fn circles_and_strangers_are_found() {
        for (edges, expected) in [
            (&[("a", &[][..]), ("b", &["a"]), ("c", &["a", "b"])][..], &[][..]),
            (&[("a", &["x"])], &[("a", "it depends on x, which is not in the set")]),
            (&[("a", &["there"])], &[]),
            (&[("a", &["a"])], &[("a", "it depends on itself: a -> a")]),
            (
                &[("a", &["b"]), ("b", &["a"]), ("c", &["a"])],
                &[("a", "it depends on itself: a -> b -> a"), ("b", "it depends on itself: b -> a -> b")],
            ),
            (
                &[("a", &["b"]), ("b", &["c"]), ("c", &["a"])],
                &[
                    ("a", "it depends on itself: a -> b -> c -> a"),
                    ("b", "it depends on itself: b -> c -> a -> b"),
                    ("c", "it depends on itself: c -> a -> b -> c"),
                ],
            ),
        ] {
            let found = impossible(&set(edges), &["there"].into());
            let found: Vec<_> = found.iter().map(|(name, why)| (name.as_str(), why.as_str())).collect();
            assert_eq!(found, expected, "{edges:?}");
        }
    }
}
