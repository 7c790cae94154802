//! Groups of a graph in which each reaches each.

/// The groups of more than one node. Node `i` has arrows to `arrows[i]`.
pub(super) fn circles(arrows: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut search = Search {
        arrows,
        order: vec![None; arrows.len()],
        lowest: vec![0; arrows.len()],
        open: Vec::new(),
        is_open: vec![false; arrows.len()],
        count: 0,
        found: Vec::new(),
    };
    for node in 0..arrows.len() {
        if search.order[node].is_none() {
            search.visit(node);
        }
    }
    search.found
}

/// Tarjan's search for strongly connected components.
struct Search<'a> {
    arrows: &'a [Vec<usize>],
    /// When a node was met.
    order: Vec<Option<usize>>,
    /// The earliest open node that each reaches.
    lowest: Vec<usize>,
    open: Vec<usize>,
    is_open: Vec<bool>,
    count: usize,
    found: Vec<Vec<usize>>,
}

impl Search<'_> {
    fn visit(&mut self, node: usize) {
        let own = self.count;
        self.count += 1;
        self.order[node] = Some(own);
        self.lowest[node] = own;
        self.open.push(node);
        self.is_open[node] = true;
        for &target in &self.arrows[node] {
            match self.order[target] {
                None => {
                    self.visit(target);
                    self.lowest[node] = self.lowest[node].min(self.lowest[target]);
                }
                Some(order) if self.is_open[target] => {
                    self.lowest[node] = self.lowest[node].min(order);
                }
                Some(_) => {}
            }
        }
        if self.lowest[node] == own {
            let start = self.open.iter().rposition(|&open| open == node).unwrap_or(0);
            let group = self.open.split_off(start);
            group.iter().for_each(|&closed| self.is_open[closed] = false);
            if group.len() > 1 {
                self.found.push(group);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_found_and_lone_nodes_are_not() {
        let arrows = [vec![1], vec![2, 0], vec![3], vec![4], vec![3, 4], vec![0]];
        let mut found = circles(&arrows);
        found.iter_mut().for_each(|group| group.sort_unstable());
        found.sort();
        assert_eq!(found, [vec![0, 1], vec![3, 4]]);
    }
}
