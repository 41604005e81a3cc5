//! The order of services: circles are refused when the image is built, never met at boot.

use std::collections::BTreeMap;

/// Finds a circle in a graph given as `(name, the names it comes after)`. Names that are not in
/// the graph are passed over.
///
/// Returns the circle with its first name again at the end, or `None` when there is none.
pub fn circle<'a, I>(edges: I) -> Option<Vec<&'a str>>
where
    I: IntoIterator<Item = (&'a str, &'a [String])>,
{
    let graph: BTreeMap<&str, &[String]> = edges.into_iter().collect();
    let mut marks: BTreeMap<&str, Mark> = BTreeMap::new();
    for start in graph.keys() {
        // Depth-first with its own stack: (name, index of the next edge to follow).
        let mut stack: Vec<(&str, usize)> = vec![(start, 0)];
        while let Some((name, next)) = stack.pop() {
            if next == 0 {
                if marks.contains_key(name) {
                    continue;
                }
                marks.insert(name, Mark::OnPath);
            }
            let Some(target) = graph.get(name).and_then(|edges| edges.get(next)) else {
                marks.insert(name, Mark::Done);
                continue;
            };
            stack.push((name, next + 1));
            match marks.get(target.as_str()) {
                Some(Mark::Done) => {}
                Some(Mark::OnPath) => {
                    let from = stack
                        .iter()
                        .position(|(name, _)| *name == target.as_str())?;
                    let mut circle: Vec<&str> =
                        stack.iter().skip(from).map(|(name, _)| *name).collect();
                    circle.push(circle.first().copied()?);
                    return Some(circle);
                }
                None => {
                    if let Some((name, _)) = graph.get_key_value(target.as_str()) {
                        stack.push((name, 0));
                    }
                }
            }
        }
    }
    None
}

#[derive(Clone, Copy, PartialEq)]
enum Mark {
    OnPath,
    Done,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(edges: &[(&'static str, &[&str])]) -> Option<String> {
        let owned: Vec<(&str, Vec<String>)> = edges
            .iter()
            .map(|(name, after)| (*name, after.iter().map(|s| (*s).to_owned()).collect()))
            .collect();
        circle(owned.iter().map(|(name, after)| (*name, after.as_slice())))
            .map(|circle| circle.join(" -> "))
    }

    #[test]
    fn a_tree_and_a_diamond_have_none() {
        assert_eq!(
            find(&[("a", &["b", "c"]), ("b", &["d"]), ("c", &["d"]), ("d", &[])]),
            None
        );
    }

    #[test]
    fn circles_are_named_from_where_they_close() {
        assert_eq!(find(&[("a", &["a"])]).as_deref(), Some("a -> a"));
        assert_eq!(
            find(&[("a", &["b"]), ("b", &["c"]), ("c", &["d"]), ("d", &["b"])]).as_deref(),
            Some("b -> c -> d -> b")
        );
    }

    #[test]
    fn unknown_names_are_passed_over() {
        assert_eq!(find(&[("a", &["nobody"])]), None);
    }
}
