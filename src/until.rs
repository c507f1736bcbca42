//! Asking again until the answer will do.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Asks until the answer will do, with a pause between two questions, and at least once; the last answer where none did
/// within the limit.
pub async fn until<T>(
    limit: Duration,
    pause: Duration,
    ask: impl AsyncFn() -> T,
    will_do: impl Fn(&T) -> bool,
) -> T {
    let end = Instant::now() + limit;
    loop {
        let answer = ask().await;
        if will_do(&answer) || Instant::now() >= end {
            return answer;
        }
        sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_waited_for_and_not_for_ever() {
        for (good_at, limit, asked, answer) in
            [(1, 300, 1, true), (20, 300, 20, true), (1000, 300, 61, false), (1000, 0, 1, false)]
        {
            let times = Cell::new(0);
            let ask = async || {
                times.set(times.get() + 1);
                times.get() >= good_at
            };
            let pause = Duration::from_secs(5);
            let found = until(Duration::from_secs(limit), pause, ask, |good| *good).await;
            assert_eq!((found, times.get()), (answer, asked), "good at the {good_at}. time");
        }
    }
}
