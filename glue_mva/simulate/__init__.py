"""The paper's synthetic problems (section 4, Appendix C), stepped with the optimizer classes that training uses.

`nonconvex` and `quadratic` run the problems, `claims` compares the results with the paper's, `figures` and `page` show
them. All repeats and learning rates of one setting are stepped together: one parameter group per learning rate.
"""
