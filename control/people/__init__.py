"""People: accounts and their roles, what each role may do, and how people sign in.

roles, accounts   who may do what, and the check that every action makes
administration    what admins do to accounts
sign_in           being let in by password or one-time link; passwords, slowdown behind it
sessions          who is signed in, and from where
oidc              people whom an OIDC provider vouches for
preferences       what each account likes to see first
first_admin       the link that the first start prints
"""
