//! Which elements of two sequences belong together: a longest common subsequence.

/// Differences from which on the exact method is given up: its memory grows with their square.
const MOST_DIFFERENCES: usize = 1500;

/// Pairs of places of equal keys, ascending in both sequences, as many as there can be; where the
/// sequences differ at very many places, fewer.
pub(super) fn align(first: &[u64], second: &[u64]) -> Vec<(usize, usize)> {
    let start = first.iter().zip(second).take_while(|(a, b)| a == b).count();
    let (rest_first, rest_second) = (&first[start..], &second[start..]);
    let end =
        rest_first.iter().rev().zip(rest_second.iter().rev()).take_while(|(a, b)| a == b).count();
    let middle_first = &rest_first[..rest_first.len() - end];
    let middle_second = &rest_second[..rest_second.len() - end];
    let mut pairs: Vec<(usize, usize)> = (0..start).map(|place| (place, place)).collect();
    let middle = shortest_edit(middle_first, middle_second)
        .unwrap_or_else(|| in_passing(middle_first, middle_second));
    pairs.extend(middle.into_iter().map(|(a, b)| (a + start, b + start)));
    pairs.extend((0..end).rev().map(|back| (first.len() - 1 - back, second.len() - 1 - back)));
    pairs
}

/// The greedy algorithm for the shortest edit: how far each diagonal reaches after each number of
/// differences. `None` where there are too many.
fn shortest_edit(first: &[u64], second: &[u64]) -> Option<Vec<(usize, usize)>> {
    let (n, m) = (first.len() as i64, second.len() as i64);
    if n == 0 || m == 0 {
        return Some(Vec::new());
    }
    let most = (first.len() + second.len()).min(MOST_DIFFERENCES) as i64;
    let at = |k: i64| (k + most + 1) as usize;
    let mut reach = vec![0_i64; 2 * most as usize + 3];
    // What the diagonals -d..=d reached before step d.
    let mut history: Vec<Vec<i64>> = Vec::new();
    for d in 0..=most {
        history.push(reach[at(-d - 1)..=at(d + 1)].to_vec());
        for k in (-d..=d).step_by(2) {
            let down = k == -d || (k != d && reach[at(k - 1)] < reach[at(k + 1)]);
            let mut x = if down { reach[at(k + 1)] } else { reach[at(k - 1)] + 1 };
            while x < n && x - k < m && x - k >= 0 && first[x as usize] == second[(x - k) as usize]
            {
                x += 1;
            }
            reach[at(k)] = x;
            if x >= n && x - k >= m {
                return Some(walk_back(&history, n, m));
            }
        }
    }
    None
}

fn walk_back(history: &[Vec<i64>], n: i64, m: i64) -> Vec<(usize, usize)> {
    let (mut x, mut y) = (n, m);
    let mut pairs = Vec::new();
    for (d, reach) in history.iter().enumerate().rev() {
        let d = d as i64;
        let at = |k: i64| reach[(k + d + 1) as usize];
        let k = x - y;
        let down = k == -d || (k != d && at(k - 1) < at(k + 1));
        let before = if down { k + 1 } else { k - 1 };
        let (from_x, from_y) = if d == 0 { (0, 0) } else { (at(before), at(before) - before) };
        while x > from_x && y > from_y {
            (x, y) = (x - 1, y - 1);
            pairs.push((x as usize, y as usize));
        }
        if d > 0 {
            (x, y) = (from_x, from_y);
        }
    }
    pairs.reverse();
    pairs
}

/// Each element with the next equal one of the other sequence.
fn in_passing(first: &[u64], second: &[u64]) -> Vec<(usize, usize)> {
    let mut places: std::collections::HashMap<u64, std::collections::VecDeque<usize>> =
        std::collections::HashMap::new();
    for (place, key) in second.iter().enumerate() {
        places.entry(*key).or_default().push_back(place);
    }
    let (mut pairs, mut next) = (Vec::new(), 0);
    for (place, key) in first.iter().enumerate() {
        let Some(list) = places.get_mut(key) else { continue };
        while list.front().is_some_and(|found| *found < next) {
            list.pop_front();
        }
        // One far ahead would leave everything between without a partner.
        if let Some(found) = list.front().copied().filter(|found| *found < next + 64) {
            list.pop_front();
            pairs.push((place, found));
            next = found + 1;
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Vec<u64> {
        text.bytes().map(u64::from).collect()
    }

    /// Length of the longest common subsequence, by the table.
    fn longest(first: &[u64], second: &[u64]) -> usize {
        let mut row = vec![0; second.len() + 1];
        for a in first {
            let mut corner = 0;
            for (place, b) in second.iter().enumerate() {
                let above = row[place + 1];
                row[place + 1] = if a == b { corner + 1 } else { above.max(row[place]) };
                corner = above;
            }
        }
        row[second.len()]
    }

    #[test]
    fn alignments_are_longest_and_ascending() {
        let mut state = 7_u64;
        let mut random = |limit: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % limit
        };
        for _ in 0..300 {
            let mut make = || -> Vec<u64> { (0..random(20)).map(|_| random(4)).collect() };
            let (first, second) = (make(), make());
            let pairs = align(&first, &second);
            assert!(pairs.windows(2).all(|two| two[0].0 < two[1].0 && two[0].1 < two[1].1));
            assert!(pairs.iter().all(|(a, b)| first[*a] == second[*b]));
            assert_eq!(pairs.len(), longest(&first, &second), "{first:?} {second:?}");
        }
    }

    #[test]
    fn an_insertion_moves_the_rest() {
        assert_eq!(align(&keys("abcd"), &keys("abxcd")), [(0, 0), (1, 1), (2, 3), (3, 4)]);
        assert_eq!(align(&keys(""), &keys("a")), []);
    }

    #[test]
    fn very_different_sequences_end_too() {
        let first: Vec<u64> = (0..5000).collect();
        let second: Vec<u64> =
            (0..5000).map(|key| if key % 3 == 0 { key } else { key + 9000 }).collect();
        let pairs = align(&first, &second);
        assert!(pairs.len() > 1000, "{}", pairs.len());
    }
}
