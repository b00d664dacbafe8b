//! What is asked for: keys drawn from a seed, so that all who take part are asked for the same.

/// Draws from Zipf's law: the key of rank `r` comes up in proportion to `1 / r^exponent`.
///
/// By rejection inversion (Hörmann, Derflinger: "Rejection-inversion to generate variates from
/// monotone discrete distributions", 1996), which needs no table.
#[derive(Debug)]
pub struct Zipf {
    random: fastrand::Rng,
    keys: f64,
    exponent: f64,
    from: f64,
    to: f64,
    accepted: f64,
}

impl Zipf {
    /// Of `keys` keys, from 0 on, the most frequent one first.
    #[expect(clippy::cast_precision_loss, reason = "there are fewer than 2^52")]
    pub fn new(keys: u64, exponent: f64, seed: u64) -> Self {
        let mut zipf = Self {
            random: fastrand::Rng::with_seed(seed),
            keys: keys as f64,
            exponent,
            from: 0.0,
            to: 0.0,
            accepted: 0.0,
        };
        zipf.from = zipf.area(1.5) - 1.0;
        zipf.to = zipf.area(zipf.keys + 0.5);
        zipf.accepted = 2.0 - zipf.inverse(zipf.area(2.5) - zipf.weight(2.0));
        zipf
    }

    fn weight(&self, rank: f64) -> f64 {
        (-self.exponent * rank.ln()).exp()
    }

    /// The integral of the weight from 1 on.
    fn area(&self, rank: f64) -> f64 {
        let log = rank.ln();
        let power = (1.0 - self.exponent) * log;
        // (e^x - 1) / x, which is 1 at 0.
        if power.abs() > 1e-8 { power.exp_m1() / power * log } else { log }
    }

    fn inverse(&self, area: f64) -> f64 {
        let power = (area * (1.0 - self.exponent)).max(-1.0);
        if power.abs() > 1e-8 { (power.ln_1p() / power * area).exp() } else { area.exp() }
    }
}

impl Iterator for Zipf {
    type Item = u64;

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is in bounds")]
    fn next(&mut self) -> Option<u64> {
        loop {
            let area = self.to + self.random.f64() * (self.from - self.to);
            let point = self.inverse(area);
            let rank = point.round().clamp(1.0, self.keys);
            if rank - point <= self.accepted || area >= self.area(rank + 0.5) - self.weight(rank) {
                return Some(rank as u64 - 1);
            }
        }
    }
}

/// A stream as caches of sites see it: most requests by Zipf's law among what is popular now, which
/// drifts; a share for things that nobody asks for again; and now and then a crawler, which asks for
/// all that there is, once, in order.
#[derive(Debug)]
pub struct Site {
    popular: Zipf,
    random: fastrand::Rng,
    count: u64,
    once: u64,
    crawl: u64,
}

/// One request in so many begins a crawl.
const CRAWLS: u64 = 100_000;

/// Requests of a crawl, of which every other request is then one.
const CRAWL: u64 = 20_000;

/// After so many requests, what is most popular is another.
const DRIFT: u64 = 2_000;

/// Of 100 requests, those for what nobody asks for again.
const ONCE: u64 = 15;

/// Where the keys that are asked for once begin.
const FIRST_ONCE: u64 = 1 << 40;

impl Site {
    /// Of `keys` keys that may be popular.
    pub fn new(keys: u64, seed: u64) -> Self {
        let popular = Zipf::new(keys, 0.9, seed);
        Self { popular, random: fastrand::Rng::with_seed(!seed), count: 0, once: 0, crawl: 0 }
    }
}

impl Iterator for Site {
    type Item = u64;

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is in bounds")]
    fn next(&mut self) -> Option<u64> {
        let keys = self.popular.keys as u64;
        self.count += 1;
        if self.count.is_multiple_of(CRAWLS) {
            self.crawl = CRAWL;
        }
        if self.crawl > 0 && self.count.is_multiple_of(2) {
            self.crawl -= 1;
            return Some((self.count / CRAWLS * 7_919 + CRAWL - self.crawl) % keys);
        }
        if self.random.u64(..100) < ONCE {
            self.once += 1;
            return Some(FIRST_ONCE + self.once);
        }
        // Ranks go to other keys little by little: those of the highest ranks last.
        let rank = self.popular.next()?;
        Some((rank + self.count / DRIFT * 31) % keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_come_up_as_the_law_says() {
        for exponent in [0.7, 1.0, 1.2] {
            let mut counts = [0_u32; 100];
            for key in Zipf::new(100, exponent, 1).take(1_000_000) {
                counts[usize::try_from(key).unwrap()] += 1;
            }
            let sum: f64 = (1..=100).map(|rank| f64::from(rank).powf(-exponent)).sum();
            for (rank, count) in (1..=100).zip(counts) {
                let expected = 1e6 * f64::from(rank).powf(-exponent) / sum;
                let deviation = (f64::from(count) - expected).abs() / expected.sqrt();
                assert!(deviation < 5.0, "{exponent} {rank}: {count}, not {expected}");
            }
        }
    }

    #[test]
    fn a_seed_says_it_all() {
        let take = |seed| Site::new(1_000, seed).take(200_000).collect::<Vec<_>>();
        assert!(take(1) == take(1) && take(1) != take(2));
    }
}
