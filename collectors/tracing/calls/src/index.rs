//! Finds the node of a function below a parent, where a thread's tree is wide.

/// Open addressing with linear probing; as wide as a tree gets, finding takes a step or two.
#[derive(Debug)]
pub(crate) struct Index {
    /// Parent and function, which are never both zero.
    keys: Vec<u64>,
    nodes: Vec<u32>,
    used: usize,
}

impl Index {
    pub(crate) fn new() -> Index {
        Index {
            keys: vec![0; 64],
            nodes: vec![0; 64],
            used: 0,
        }
    }

    /// `function` is not 0: a node has that only before it is complete.
    fn key(parent: u32, function: u32) -> u64 {
        u64::from(parent) << 32 | u64::from(function)
    }

    /// Where a key is, or where it belongs.
    fn place(&self, key: u64) -> usize {
        let mask = self.keys.len() - 1;
        // A multiplication spreads the key over the upper bits.
        let mut place = (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize & mask;
        while self.keys[place] != key && self.keys[place] != 0 {
            place = (place + 1) & mask;
        }
        place
    }

    pub(crate) fn find(&self, parent: u32, function: u32) -> Option<u32> {
        let key = Self::key(parent, function);
        let place = self.place(key);
        (self.keys[place] == key).then(|| self.nodes[place])
    }

    pub(crate) fn insert(&mut self, parent: u32, function: u32, node: u32) {
        if self.used * 4 >= self.keys.len() * 3 {
            self.grow();
        }
        let key = Self::key(parent, function);
        let place = self.place(key);
        self.keys[place] = key;
        self.nodes[place] = node;
        self.used += 1;
    }

    fn grow(&mut self) {
        let size = self.keys.len() * 2;
        let keys = std::mem::replace(&mut self.keys, vec![0; size]);
        let nodes = std::mem::replace(&mut self.nodes, vec![0; size]);
        for (key, node) in keys.into_iter().zip(nodes) {
            if key != 0 {
                let place = self.place(key);
                self.keys[place] = key;
                self.nodes[place] = node;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_in_is_found() {
        let mut index = Index::new();
        let many = if cfg!(miri) { 300 } else { 30_000 };
        for node in 1..many {
            assert_eq!(index.find(node / 7, node), None);
            index.insert(node / 7, node, node * 3);
        }
        for node in 1..many {
            assert_eq!(index.find(node / 7, node), Some(node * 3));
            assert_eq!(index.find(node / 7 + 1, node), None);
        }
    }
}
