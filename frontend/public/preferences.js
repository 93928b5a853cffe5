// Runs before the first paint, so that the page never flashes in the other theme.
// A file of its own because the Content-Security-Policy allows no inline script.
try {
  const theme = localStorage.getItem('movie-mlops.theme');
  if (theme) document.documentElement.dataset.theme = JSON.parse(theme);
} catch {
  // no storage: the system's theme is used
}
