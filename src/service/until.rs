//! Work that ends with a token.

use std::future::poll_fn;
use std::pin::pin;
use std::task::{Poll, Waker};

use tokio_util::sync::CancellationToken;

/// What `work` gives, or `None` once `token` is cancelled, as
/// [`CancellationToken::run_until_cancelled`] does it. That looks through the token's list of
/// waiters whenever it is woken, and a connection is woken for every piece that it carries: here
/// one look has the task woken at the end, and from then on it is only asked whether that has come.
pub(super) async fn until<F: Future>(token: &CancellationToken, work: F) -> Option<F::Output> {
    let mut work = pin!(work);
    let mut cancelled = pin!(token.cancelled());
    let mut woken: Option<Waker> = None;
    poll_fn(|cx| {
        if let Poll::Ready(done) = work.as_mut().poll(cx) {
            return Poll::Ready(Some(done));
        }
        if woken.as_ref().is_some_and(|one| one.will_wake(cx.waker())) {
            return match token.is_cancelled() {
                true => Poll::Ready(None),
                false => Poll::Pending,
            };
        }
        woken = Some(cx.waker().clone());
        cancelled.as_mut().poll(cx).map(|()| None)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::{sleep, timeout};

    #[tokio::test(start_paused = true)]
    async fn work_is_woken_for_itself_and_ended_by_its_token() {
        let token = CancellationToken::new();
        let work = async {
            for _ in 0..3 {
                sleep(Duration::from_secs(1)).await;
            }
            7
        };
        assert_eq!(until(&token, work).await, Some(7));

        let cancel = async {
            sleep(Duration::from_secs(5)).await;
            token.cancel();
        };
        let work = async {
            sleep(Duration::from_secs(1)).await;
            std::future::pending::<()>().await;
        };
        let (ended, ()) = tokio::join!(until(&token, work), cancel);
        assert_eq!(ended, None);
        assert_eq!(until(&token, std::future::pending::<()>()).await, None);
    }

    /// A future may be polled by another task than before.
    #[tokio::test(start_paused = true)]
    async fn it_is_woken_where_it_was_polled_last() {
        let token = CancellationToken::new();
        let ending = token.clone();
        let mut work = Box::pin(async move { until(&ending, std::future::pending::<()>()).await });
        assert!(timeout(Duration::from_secs(1), &mut work).await.is_err());
        let elsewhere = tokio::spawn(work);
        tokio::task::yield_now().await;
        token.cancel();
        let ended = timeout(Duration::from_secs(1), elsewhere).await;
        assert_eq!(ended.unwrap().unwrap(), None);
    }
}
