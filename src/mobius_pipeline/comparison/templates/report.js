"use strict";
(() => {
  const videos = [...document.querySelectorAll("video")];
  const button = document.getElementById("playing");
  let playing = !matchMedia("(prefers-reduced-motion: reduce)").matches;
  const apply = () => {
    // Pausing rejects the promise of a play() that has just started; that is not an error.
    videos.forEach(video => playing ? video.play().catch(() => {}) : video.pause());
    button.textContent = playing ? "Pause all videos" : "Play all videos";
  };
  button.addEventListener("click", () => { playing = !playing; apply(); });
  if (!playing) { videos.forEach(video => { video.autoplay = false; }); apply(); }
})();
