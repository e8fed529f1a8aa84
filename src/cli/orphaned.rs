//! Whether whoever started this process is gone: the end of standard input tells.

use tokio::sync::oneshot;

/// The end of standard input, if anybody asked for it.
pub(crate) struct Orphaned(Option<oneshot::Receiver<()>>);

impl Orphaned {
    /// With `watch`, looks at standard input from a thread of its own: a blocking read.
    pub(crate) fn new(watch: bool) -> Self {
        Self(watch.then(|| {
            let (tell, told) = oneshot::channel();
            std::thread::spawn(move || {
                // An error is an end, too.
                let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
                let _ = tell.send(());
            });
            told
        }))
    }

    /// Ends when standard input has.
    pub(crate) async fn wait(&mut self) {
        match &mut self.0 {
            Some(told) => {
                let _ = told.await;
            }
            None => std::future::pending().await,
        }
    }
}
