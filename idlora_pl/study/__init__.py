"""Human studies: pages for A/B and opinion-score tests, and what their answers say."""
